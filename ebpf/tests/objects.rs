//! The committed objects are what the committed sources compile to.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

fn sha256(parts: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(std::fs::read(part).expect("readable"));
    }
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The files of a folder with this ending, in the order of the shell's glob.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FOLDER).join(folder)).expect("a folder");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

fn manifest(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("manifest")).expect("a manifest")
}

#[test]
fn the_manifest_fits_sources_and_objects() {
    let objects = Path::new(FOLDER).join("objects");
    let manifest = manifest(&objects);
    let lines: Vec<Vec<&str>> = manifest
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
        .collect();
    let sources = files("src", ".bpf.c");
    assert_eq!(lines.len(), sources.len(), "run ebpf/build.sh");
    assert_eq!(
        files("objects", ".o").len(),
        sources.len(),
        "an object without a source"
    );
    for (line, source) in lines.iter().zip(sources) {
        let name = source.file_stem().expect("a name").to_string_lossy();
        assert_eq!(line[0], format!("{name}.o"));
        assert_eq!(
            sha256(&[objects.join(line[0])]),
            line[1],
            "{name}: not the object built"
        );
        let mut parts = vec![source.clone()];
        parts.extend(files("src", ".h"));
        assert_eq!(
            sha256(&parts),
            line[2],
            "{name}: changed since; run ebpf/build.sh"
        );
    }
}

/// Another clang may make other instructions of the same source, so its version is in the
/// manifest, and bytes are compared with the same one only.
#[test]
fn building_again_gives_the_same_bytes() {
    let Ok(version) = Command::new("clang-14").arg("--version").output() else {
        eprintln!("ignored: no clang-14 here");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let committed = Path::new(FOLDER).join("objects");
    let expected = manifest(&committed);
    let compiler = expected.lines().nth(1).expect("a line with the compiler");
    let number = compiler.rsplit(' ').next().expect("its version");
    if !version.contains(&format!("version {number}")) {
        eprintln!("ignored: the objects are of {compiler}, here is {version}");
        return;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("objects");
    let _ = std::fs::remove_dir_all(&folder);
    let built = Command::new(Path::new(FOLDER).join("build.sh"))
        .arg(&folder)
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    assert_eq!(manifest(&folder), expected);
    for object in files("objects", ".o") {
        let again = folder.join(object.file_name().expect("a name"));
        assert_eq!(sha256(&[again]), sha256(&[object]));
    }
}
