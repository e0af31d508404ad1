//! The last valid configuration, kept so that a broken file does not stop a service.
//!
//! Written whole to a file beside and renamed, so that what is there is always complete.
//! The first line names the file that it came from: it stands in for no other.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError};

const NAME: &str = "last-valid.toml";

/// Where state is kept: what systemd gives (`STATE_DIRECTORY`, the first of a list by
/// colons) before what is configured.
pub fn directory(configured: &Path, environment: Option<&str>) -> PathBuf {
    environment
        .and_then(|list| list.split(':').next())
        .filter(|first| first.starts_with('/'))
        .map_or_else(|| configured.to_owned(), PathBuf::from)
}

fn head(source: &Path) -> String {
    let absolute = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    format!("# last valid configuration of {}\n", absolute.display())
}

/// Keeps `config`, which was read from `source`.
///
/// # Errors
/// When the folder cannot be made or written to.
pub fn save(folder: &Path, source: &Path, config: &Config) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{NAME}.new"));
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(head(source).as_bytes())?;
    file.write_all(config.effective.as_bytes())?;
    // On disk before it takes the old one's place, or a crash could leave neither.
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(NAME))
}

/// What was kept for `source`; `None` when there is nothing, or nothing of it.
///
/// # Errors
/// When something is there that is not valid (any more).
pub fn load(folder: &Path, source: &Path) -> Result<Option<Config>, ConfigError> {
    let path = folder.join(NAME);
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ConfigError::of(&name, format!("cannot be read: {error}"))),
    };
    if !text.starts_with(&head(source)) {
        return Ok(None);
    }
    Config::parse(&name, &text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    #[test]
    fn what_was_saved_comes_back_for_the_same_file_only() {
        let folder = Folder::new();
        let source = folder.path().join("a.toml");
        let config = Config::parse("a", "[limits]\npackets_per_second = 7\n").unwrap();
        let state = folder.path().join("not/there/yet");
        assert_eq!(load(&state, &source), Ok(None));
        save(&state, &source, &config).unwrap();
        assert_eq!(load(&state, &source).unwrap(), Some(config));
        assert_eq!(load(&state, Path::new("/b.toml")), Ok(None));
        // Nothing half-written is left beside it.
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_one_is_an_error() {
        let folder = Folder::new();
        let source = folder.path().join("a.toml");
        let text = format!("{}[limits\n", head(&source));
        std::fs::write(folder.path().join(NAME), text).unwrap();
        let error = load(folder.path(), &source).unwrap_err().to_string();
        assert!(error.contains("last-valid.toml:2"), "{error}");
    }

    #[test]
    fn systemd_names_the_folder() {
        let configured = Path::new("/var/lib/x");
        for (environment, path) in [
            (None, "/var/lib/x"),
            (Some(""), "/var/lib/x"),
            (Some("/a"), "/a"),
            (Some("/a:/b"), "/a"),
        ] {
            assert_eq!(directory(configured, environment), Path::new(path));
        }
    }
}
