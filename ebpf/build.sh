#!/bin/sh
# Compiles every src/*.bpf.c to an object and writes the manifest: what is committed under
# objects/ comes from here and from nowhere else. With an argument: into that folder instead
# (the rebuild test). Needs clang-14 and llvm-14, no header but our own.
set -eu
cd "$(dirname "$0")"
export LC_ALL=C
out=${1:-objects}
mkdir -p "$out"
hash_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }
{
    echo "# object, sha256 of the object, sha256 of its source followed by every src/*.h; by build.sh"
    echo "# $(clang-14 --version | sed -n '1s/.*version \([0-9.]*\).*/clang \1/p')"
    for source in src/*.bpf.c; do
        object=$(basename "$source" .c).o
        # Paths relative and without debug sections: the same bytes on every machine.
        clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -nostdinc \
            "-ffile-prefix-map=$PWD=." -fdebug-compilation-dir=. \
            -c "$source" -o "$out/$object"
        llvm-strip-14 -g "$out/$object"
        echo "$object $(hash_of "$out/$object") $(hash_of "$source" src/*.h)"
    done
} >"$out/manifest.new"
mv "$out/manifest.new" "$out/manifest"
