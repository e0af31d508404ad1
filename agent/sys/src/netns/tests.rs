use super::*;

/// These need `CAP_SYS_ADMIN`; the lab, whose harness can say "ignored", tests the same
/// with more depth, so here a missing privilege ends the test early.
fn created(name: &str) -> Option<Namespace> {
    match Namespace::create(name) {
        Ok(namespace) => Some(namespace),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => panic!("{error}"),
    }
}

fn interfaces() -> Vec<String> {
    // Independent of the module: what the kernel shows this thread.
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("procfs");
    text.lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim().to_owned())
        .collect()
}

#[test]
fn names_tell_their_maker() {
    assert_eq!(maker("ns-12-3"), Some(12));
    assert_eq!(maker(&unique_name()), Some(std::process::id()));
    for other in ["ns-12", "ns-x-1", "ns-1-x", "blue", ""] {
        assert_eq!(maker(other), None, "{other}");
    }
    assert_ne!(unique_name(), unique_name());
}

#[test]
fn a_thread_goes_in_and_comes_back_even_by_a_panic() {
    let Some(namespace) = created(&unique_name()) else {
        return;
    };
    let link = || fs::read_link("/proc/thread-self/ns/net").expect("procfs");
    let before = link();
    let inside = namespace.run(link).expect("enter");
    assert_ne!(before, inside);
    assert_eq!(before, link());
    assert_eq!(
        namespace.run(interfaces).expect("enter"),
        ["lo"],
        "a new namespace has nothing but lo"
    );

    let after = thread::spawn(move || {
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _inside = namespace.enter().expect("enter");
            panic!("on purpose");
        }));
        assert!(unwound.is_err());
        link()
    })
    .join()
    .expect("no second panic");
    assert_eq!(before, after);
}

#[test]
fn the_name_goes_with_the_value_and_is_never_taken_twice() {
    let name = unique_name();
    let Some(namespace) = created(&name) else {
        return;
    };
    assert!(path_of(&name).exists());
    let again = Namespace::create(&name).expect_err("the name is taken");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert!(path_of(&name).exists(), "the loser must not remove it");

    let borrowed = Namespace::open(&name).expect("open");
    drop(borrowed);
    assert!(path_of(&name).exists(), "an opened name is not ours");
    drop(namespace);
    assert!(!path_of(&name).exists());
    assert_eq!(
        Namespace::open(&name).expect_err("gone").kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn leftovers_of_dead_processes_go_and_the_living_stay() {
    let living = unique_name();
    let Some(_kept) = created(&living) else {
        return;
    };
    // A process that has ended and was waited for: its id names nobody.
    let mut child = std::process::Command::new("true").spawn().expect("true");
    let pid = child.id();
    child.wait().expect("wait");
    let dead = format!("ns-{pid}-0");
    let mut orphan = Namespace::create(&dead).expect("create");
    orphan.ours = false;
    drop(orphan);
    assert!(path_of(&dead).exists());

    remove_leftovers().expect("readable");
    assert!(!path_of(&dead).exists());
    assert!(path_of(&living).exists());
}
