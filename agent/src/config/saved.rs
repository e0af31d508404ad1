//! The last valid configuration, kept so that a broken file does not stop a service.
//!
//! Written whole to a file beside and renamed, so that what is there is always complete.
//! The first line names the file that it came from: it stands in for no other.
//!
//! The service's user can write here, and root reads it before it becomes that user. So it
//! must be a file of theirs, no symbolic link, and decides nothing that [`Kept`] holds.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::tree::Node;
use super::{Config, ConfigError, Kept};

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
    let mut file = File::create(&beside)?;
    file.write_all(head(source).as_bytes())?;
    file.write_all(config.effective.as_bytes())?;
    // On disk before it takes the old one's place, or a crash could leave neither.
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(NAME))
}

/// Opens a file of one of `owners`, and nothing else: not what a symbolic link leads to.
fn open(path: &Path, owners: &[u32]) -> std::io::Result<File> {
    let entry = std::fs::symlink_metadata(path)?;
    if !entry.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    // What was opened, in case that the entry was replaced in between.
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (entry.dev(), entry.ino()) {
        return Err(std::io::Error::other("it was replaced while it was opened"));
    }
    if !owners.contains(&opened.uid()) {
        return Err(std::io::Error::other(format!(
            "it belongs to user {}, neither root nor the agent's user",
            opened.uid()
        )));
    }
    Ok(file)
}

/// What was kept for `source`, but for what `kept` holds; `None` when there is nothing, or
/// nothing of it. It must belong to one of `owners`.
///
/// # Errors
/// When something is there that is not valid (any more), or cannot be trusted.
pub fn load(
    folder: &Path,
    source: &Path,
    kept: &Kept,
    owners: &[u32],
) -> Result<Option<Config>, ConfigError> {
    let path = folder.join(NAME);
    let name = path.display().to_string();
    let mut text = String::new();
    match open(&path, owners).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ConfigError::of(&name, format!("cannot be read: {error}"))),
    }
    if !text.starts_with(&head(source)) {
        return Ok(None);
    }
    let mut tree = Node::parse(&name, &text)?;
    tree.merge(kept.node()?);
    Config::from_tree(&tree).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    fn kept(source: &Path) -> Kept {
        Kept::of(source, &[])
    }

    fn me() -> u32 {
        std::fs::metadata("/proc/self").unwrap().uid()
    }

    fn load(folder: &Path, source: &Path) -> Result<Option<Config>, ConfigError> {
        super::load(folder, source, &kept(source), &[me()])
    }

    #[test]
    fn what_was_saved_decides_no_privileges() {
        let folder = Folder::new();
        let source = folder.path().join("a.toml");
        let text = "[agent]\nuser = ''\nstate_directory = '/etc'\nrealtime = true\n\
            log = 'warn'\n";
        let forged = Config::parse("a", text).unwrap();
        save(folder.path(), &source, &forged).unwrap();
        // The present file is broken for another reason, or not readable at all.
        for (present, user, state) in [
            (
                "[agent]\nuser='nobody'\nlog='loud'\n",
                "nobody",
                "/var/lib/netsonde",
            ),
            ("[agent]\nstate_directory='/s'\nx=1\n", "netsonde", "/s"),
            ("[agent\n", "netsonde", "/var/lib/netsonde"),
        ] {
            std::fs::write(&source, present).unwrap();
            let agent = load(folder.path(), &source).unwrap().unwrap().agent;
            assert_eq!(agent.user.as_deref(), Some(user));
            assert_eq!(agent.state_directory, Path::new(state));
            assert!(!agent.realtime);
            assert_eq!(
                agent.log,
                tracing::Level::WARN,
                "the rest is what was saved"
            );
        }
        let set = [
            "agent.realtime=true".to_owned(),
            "agent.user=root".to_owned(),
        ];
        let kept = Kept::of(&source, &set);
        assert_eq!((kept.user.as_deref(), kept.realtime), (Some("root"), true));
    }

    #[test]
    fn only_a_file_of_root_or_of_the_agents_user_is_read() {
        let folder = Folder::new();
        let source = folder.path().join("a.toml");
        let real = folder.path().join("real");
        save(&real, &source, &Config::parse("a", "").unwrap()).unwrap();
        let others = [me() + 1];
        let error = super::load(&real, &source, &kept(&source), &others).unwrap_err();
        assert!(error.to_string().contains("belongs to user"), "{error}");
        std::os::unix::fs::symlink(real.join(NAME), folder.path().join(NAME)).unwrap();
        let error = load(folder.path(), &source).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
        assert!(load(&real, &source).unwrap().is_some());
    }

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
