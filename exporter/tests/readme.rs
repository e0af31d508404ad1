//! README says what is: its table of metrics is the one that is exported, its map of folders
//! that of the work tree, and what it says is installed what xtask installs.
//!
//! `NETSONDE_WRITE_README=1 cargo test -p netsonde-exporter --test readme` writes the table
//! of metrics anew; the map is written by hand, because only a person knows what a folder
//! is for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that cargo names inside a crate: no reader needs them explained.
const OF_CARGO: [&str; 4] = ["src", "tests", "benches", "examples"];

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("the workspace").to_owned()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// Where the text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` lies.
fn section(text: &str, name: &str) -> Result<std::ops::Range<usize>, String> {
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let only = |mark: &str| match text.matches(mark).count() {
        1 => Ok(text.find(mark).unwrap_or(0)),
        n => Err(format!("{:?} is there {n} times", mark.trim_end())),
    };
    let range = only(&begin)? + begin.len()..only(&end)?;
    if range.start > range.end {
        return Err(format!("{name} ends before it begins"));
    }
    Ok(range)
}

/// The folders of a map: each line that is indented by two spaces per level and whose first
/// word ends in a slash.
fn mapped(map: &str) -> BTreeSet<String> {
    let mut parents: Vec<&str> = Vec::new();
    let mut folders = BTreeSet::new();
    for line in map.lines() {
        let Some(name) = line
            .split_whitespace()
            .next()
            .and_then(|word| word.strip_suffix('/'))
        else {
            continue;
        };
        let depth = (line.len() - line.trim_start().len()) / 2;
        parents.truncate(depth);
        parents.push(name);
        folders.insert(parents.join("/"));
    }
    folders
}

/// The visible folders of one folder, without what builds leave.
fn folders(of: &Path) -> Vec<String> {
    let entries = fs::read_dir(of).expect("a folder");
    let entries = entries.map(|entry| entry.expect("an entry"));
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect()
}

/// Two levels of the work tree: crates, and what stands beside them.
fn real(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for outer in folders(root) {
        for inner in folders(&root.join(&outer)) {
            if !OF_CARGO.contains(&inner.as_str()) {
                found.insert(format!("{outer}/{inner}"));
            }
        }
        found.insert(outer);
    }
    found
}

#[test]
fn the_table_of_metrics_is_the_one_exported() {
    let text = readme();
    let range = section(&text, "metrics").expect("a marked section");
    let table = netsonde_exporter::table::markdown_table();
    if std::env::var_os("NETSONDE_WRITE_README").is_some() {
        let new = format!("{}{table}{}", &text[..range.start], &text[range.end..]);
        fs::write(root().join("README.md"), new).expect("README.md can be written");
        return;
    }
    // The first line that differs, not two tables.
    let (mut written, mut exported) = (text[range].lines(), table.lines());
    loop {
        let lines = (written.next(), exported.next());
        assert_eq!(lines.0, lines.1, "see the head of this file");
        if lines == (None, None) {
            break;
        }
    }
}

#[test]
fn the_map_shows_the_folders_that_are() {
    let text = readme();
    let map = mapped(&text[section(&text, "map").expect("a marked section")]);
    let real = real(&root());
    let missing: Vec<_> = real.difference(&map).collect();
    let gone: Vec<_> = map.difference(&real).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "README's map lacks {missing:?} and has {gone:?}, which is not there"
    );
}

/// Each crate of the workspace is on the map, also if it lay deeper than two levels.
#[test]
fn every_crate_is_on_the_map() {
    let text = readme();
    let map = mapped(&text[section(&text, "map").expect("a marked section")]);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let members = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("members")
        .0;
    let members: Vec<_> = members
        .split(',')
        .map(|member| member.trim().trim_matches('"'))
        .filter(|member| !member.is_empty())
        .collect();
    assert!(members.len() > 5, "{members:?}");
    for member in members {
        assert!(map.contains(member), "{member} is not on README's map");
    }
}

/// The packages of one list in xtask's source.
fn packages<'a>(source: &'a str, list: &str) -> Vec<&'a str> {
    let begin = format!("const {list}: &[&str] = &[");
    let (_, rest) = source.split_once(&begin).expect("the list of packages");
    let (words, _) = rest.split_once(']').expect("its end");
    words.split('"').skip(1).step_by(2).collect()
}

#[test]
fn what_is_installed_is_told() {
    let text = readme();
    let line = |command: &str| {
        let begin = format!("| `{command}` |");
        let mut lines = text.lines().filter(|line| line.starts_with(&begin));
        lines.next().expect("a line for the command").to_owned()
    };
    let source = root().join("tests/xtask/src/packages.rs");
    let source = fs::read_to_string(source).expect("xtask's packages");
    for (command, list, least) in [
        ("cargo xtask demo", "LAB", 2),
        ("cargo xtask test", "TEST", 5),
    ] {
        let (line, packages) = (line(command), packages(&source, list));
        assert!(packages.len() >= least, "{packages:?}");
        for package in packages {
            assert!(
                line.contains(&format!("`{package}`")),
                "README does not say that {command} installs {package}"
            );
        }
    }
}

#[test]
fn sections_and_maps_are_read_as_written() {
    let text = "x\n<!-- a:begin -->\none\n<!-- a:end -->\ny\n";
    assert_eq!(section(text, "a").map(|range| &text[range]), Ok("one\n"));
    assert!(section(text, "b").is_err());
    assert!(section(&text.repeat(2), "a").is_err());
    let map = "```\nREADME.md   this\nagent/   the binary\n  wire/   packets,\n          and more/less\nbench/\n  \n```\n";
    let found: Vec<_> = mapped(map).into_iter().collect();
    assert_eq!(found, ["agent", "agent/wire", "bench"]);
}
