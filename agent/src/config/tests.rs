//! Files, merging, messages, and the shipped sample.

use super::*;

/// A folder of a test, removed at its end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("netsonde-config-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn error_of(text: &str) -> String {
    Config::parse("f.toml", text).unwrap_err().to_string()
}

const SAMPLE: &str = include_str!("../../../contrib/netsonde.toml");

/// The sample with every key that it shows switched on.
fn uncommented() -> String {
    let shows_key = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| !rest.is_empty() && !rest.starts_with(' '))
            .map(str::to_owned)
    };
    SAMPLE
        .lines()
        .map(|line| shows_key(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

#[test]
fn the_sample_as_shipped_changes_nothing() {
    let sample = Config::parse("sample", SAMPLE).unwrap();
    let nothing = Config::parse("nothing", "").unwrap();
    assert_eq!(sample, nothing);
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    let shown = Node::parse("sample", &uncommented()).unwrap();
    let (text, warnings) = typed(&shown).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let example = text::Probe {
        name: "az-b".into(),
        targets: vec!["10.0.2.10".into(), "db.internal".into()],
        ..text::Probe::default()
    };
    let expected = Text {
        probe: vec![example],
        reflector: Some(text::Reflector::default()),
        capture: Some(text::Capture::default()),
        ..Text::default()
    };
    assert_eq!(text, expected);

    // Every key of the types is in the sample: those that are always serialised by
    // comparing the trees, the two that have no default by their names in the prose.
    let written = Node::parse("defaults", &toml::to_string(&expected).unwrap()).unwrap();
    let mut missing = Vec::new();
    missing_keys("", &written, &shown, &mut missing);
    assert!(missing.is_empty(), "not in the sample: {missing:?}");
    for key in ["size = 1500", "min_request = 44"] {
        assert!(SAMPLE.contains(key), "{key}");
    }
}

fn missing_keys(path: &str, wanted: &Node, shown: &Node, missing: &mut Vec<String>) {
    match (&wanted.value, &shown.value) {
        (tree::Value::Table(wanted), tree::Value::Table(shown)) => {
            for (key, node) in wanted {
                match shown.get(key) {
                    Some(other) => missing_keys(&tree::join(path, key), node, other, missing),
                    None => missing.push(tree::join(path, key)),
                }
            }
        }
        (tree::Value::Array(wanted), tree::Value::Array(shown)) => {
            for (wanted, shown) in wanted.iter().zip(shown) {
                missing_keys(path, wanted, shown, missing);
            }
        }
        _ => {}
    }
}

#[test]
fn the_defaults_send_nothing_and_listen_on_loopback_only() {
    let config = Config::parse("nothing", "").unwrap();
    assert!(config.probes.is_empty());
    assert!(config.reflector.is_none());
    assert!(config.capture.is_none());
    assert!(config.agent.listen.ip().is_loopback());
    assert!(config.agent.metrics_listen.is_none());
}

#[test]
fn what_is_printed_reads_back_as_itself() {
    let all = Config::parse("sample", &uncommented()).unwrap();
    let again = Config::parse("again", &all.effective).unwrap();
    assert_eq!(again.effective, all.effective);
    assert_eq!(again.sha256, all.sha256);
    assert_eq!(again, all);
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    assert_eq!(
        error_of("[agent]\n\nlissten = '127.0.0.1:1'\n"),
        "f.toml:3: agent.lissten: unknown key; did you mean 'listen'?"
    );
    assert_eq!(
        error_of("[[probe]]\ntargets=['a']\n[[probe]]\nintervall = 1\n"),
        "f.toml:4: probe[1].intervall: unknown key; did you mean 'interval'?"
    );
    assert_eq!(
        error_of("[reflektor]\n"),
        "f.toml:1: reflektor: unknown key; did you mean 'reflector'?"
    );
    assert_eq!(
        error_of("[limits]\nqqq = 1\n"),
        "f.toml:2: limits.qqq: unknown key; known are: packets_per_second"
    );
}

#[test]
fn unknown_keys_can_be_a_warning() {
    let config = Config::parse(
        "f",
        "on_unknown_key = 'warn'\nx = 1\n[agent]\nuzer = 'a'\nlog = 'warn'\n",
    )
    .unwrap();
    assert_eq!(config.agent.log, tracing::Level::WARN);
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[0].starts_with("f:2: x: unknown key; known are: "));
    assert_eq!(
        config.warnings[1],
        "f:4: agent.uzer: unknown key; did you mean 'user'?"
    );
}

#[test]
fn a_wrong_type_names_its_place() {
    for (text, start) in [
        (
            "[agent]\nlisten = 5",
            "f.toml:2: agent.listen: invalid type: integer `5`, expected a string",
        ),
        (
            "agent = 5",
            "f.toml:1: agent: is a whole number, expected a section",
        ),
        (
            "[limits]\npackets_per_second = -1",
            "f.toml:2: limits.packets_per_second: invalid value: integer `-1`, expected u32",
        ),
        (
            "[[probe]]\ntargets = [\n'a',\n1]",
            "f.toml:4: probe[0].targets[1]: invalid type",
        ),
        (
            "[agent]\nlog = 1979-05-27",
            "f.toml:2: agent.log: a date is not expected here",
        ),
        (
            "[agent.labels]\na = 1",
            "f.toml:2: agent.labels.a: invalid type",
        ),
        (
            "[probe]\nname='x'",
            "f.toml:1: probe: invalid type: map, expected a sequence",
        ),
    ] {
        let error = error_of(text);
        assert!(error.starts_with(start), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_broken_rule_names_its_place() {
    assert_eq!(
        error_of("[[probe]]\ntargets = ['10.0.0.1']\ninterval = '1parsec'\n"),
        "f.toml:3: probe[0].interval: '1parsec' is no duration: write 500us, 10ms, 1.5s, 2m or 1h"
    );
    // The key itself is not there: the nearest thing that is.
    assert_eq!(
        error_of("\n[[probe]]\nname = 'x'\n"),
        "f.toml:2: probe[0].targets: names no target, for instance targets = [\"10.0.2.10\"]"
    );
}

#[test]
fn the_files_of_conf_d_come_after_in_order() {
    let folder = Folder::new();
    let main = folder.write(
        "netsonde.toml",
        "[agent]\nlog='warn'\n[agent.labels]\na='1'\n[[probe]]\nname='m'\ntargets=['h']\n",
    );
    folder.write(
        "conf.d/20.toml",
        "[agent]\nlog='debug'\n[[probe]]\nname='z'\ntargets=['h']\n",
    );
    folder.write(
        "conf.d/10.toml",
        "[agent]\nlog='error'\n[agent.labels]\nb='2'\n[[probe]]\nname='y'\ntargets=['h']\n",
    );
    folder.write("conf.d/30.toml.off", "broken");
    let config = Config::load(&main, &["limits.packets_per_second=5".into()]).unwrap();
    let names: Vec<&str> = config
        .probes
        .iter()
        .map(|probe| probe.name.as_str())
        .collect();
    assert_eq!(names, ["m", "y", "z"]);
    assert_eq!(config.agent.log, tracing::Level::DEBUG);
    assert_eq!(config.agent.labels.len(), 2);
    assert_eq!(config.packets_per_second, Some(5));

    folder.write("conf.d/40.toml", "\n[agent]\nlistn = ''\n");
    let error = Config::load(&main, &[]).unwrap_err().to_string();
    assert!(
        error.ends_with("conf.d/40.toml:3: agent.listn: unknown key; did you mean 'listen'?"),
        "{error}"
    );
}

#[test]
fn overrides_and_missing_files_say_what_they_are() {
    let folder = Folder::new();
    let main = folder.write("a.toml", "");
    let error = Config::load(&main, &["agent.log=loud".into()])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("--set: agent.log: 'loud' is no known value"),
        "{error}"
    );
    let error = Config::load(&folder.path().join("b.toml"), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("b.toml: cannot be read: No such file"),
        "{error}"
    );
}

#[test]
fn the_state_directory_of_a_broken_file_is_still_found() {
    let place = Folder::new();
    let path = place.write("a.toml", "x = 1\n[agent]\nstate_directory = '/s'\n");
    let folder = |path: &Path| Kept::of(path, &[]).state_directory;
    assert_eq!(folder(&path), Path::new("/s"));
    let path = place.write("b.toml", "x = \n");
    assert_eq!(folder(&path), Path::new("/var/lib/netsonde"));
}
