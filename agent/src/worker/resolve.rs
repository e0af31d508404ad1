//! The `resolve` thread: names of targets to addresses, at start and again once a minute.
//!
//! It may wait for the resolver as long as that takes; nobody waits for it, not even at
//! the end of the process. An address that is still among the answers stays in use, so that
//! a name with several addresses does not change its target each minute.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::publish::SlotId;

/// How often a name is looked up again.
const EVERY: Duration = Duration::from_secs(60);
/// How often one is that has not resolved yet.
const RETRY: Duration = Duration::from_secs(5);

/// What to look up.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Question {
    name: String,
    port: u16,
    current: Option<SocketAddr>,
    failed: bool,
    due: Instant,
}

/// What became of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has an address, or another one than before.
    Address(SlotId, SocketAddr),
    /// It has none, and had one (or was not asked for) before; why.
    Failed(SlotId, String),
    /// The address it had is confirmed, after a failure.
    Recovered(SlotId),
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Resolver {
    questions: Sender<Change>,
    answers: Receiver<Answer>,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Debug)]
enum Change {
    Add(SlotId, String, u16),
    Remove(SlotId),
}

impl Resolver {
    /// Starts the thread; `waker` is woken when there is an answer.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(waker: sys::poll::Waker) -> std::io::Result<Self> {
        let (questions, changes) = channel();
        let (answers_in, answers) = channel();
        let thread = std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || run(&changes, &answers_in, &waker, look_up))?;
        Ok(Self {
            questions,
            answers,
            thread,
        })
    }

    /// Resolves a name from now on.
    pub fn add(&self, id: SlotId, name: &str, port: u16) {
        // The thread ends only with this value.
        let _ = self.questions.send(Change::Add(id, name.to_owned(), port));
    }

    /// No longer.
    pub fn remove(&self, id: SlotId) {
        let _ = self.questions.send(Change::Remove(id));
    }

    /// Whether the thread is there.
    pub fn alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// An answer, if there is one.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match (name, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            // glibc's words stand behind std's own.
            let text = error.to_string();
            let words = text.strip_prefix("failed to lookup address information: ");
            Err(words.unwrap_or(&text).to_owned())
        }
    }
}

fn run(
    changes: &Receiver<Change>,
    answers: &Sender<Answer>,
    waker: &sys::poll::Waker,
    look_up: impl Fn(&str, u16) -> Result<Vec<SocketAddr>, String>,
) {
    let mut questions: BTreeMap<SlotId, Question> = BTreeMap::new();
    loop {
        let next = questions.values().map(|question| question.due).min();
        let wait = next.map_or(EVERY, |due| due.saturating_duration_since(Instant::now()));
        match changes.recv_timeout(wait) {
            Ok(Change::Add(id, name, port)) => {
                let question = Question {
                    name,
                    port,
                    current: None,
                    failed: false,
                    due: Instant::now(),
                };
                questions.insert(id, question);
                continue;
            }
            Ok(Change::Remove(id)) => {
                questions.remove(&id);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // One at a time: changes are heard between two look-ups.
        let now = Instant::now();
        let Some((id, question)) = questions
            .iter_mut()
            .filter(|(_, question)| question.due <= now)
            .min_by_key(|(_, question)| question.due)
        else {
            continue;
        };
        let found = look_up(&question.name, question.port);
        if let Some(answer) = judge(*id, question, found) {
            if answers.send(answer).is_err() {
                return;
            }
            waker.wake();
        }
    }
}

/// What is new about a name, and when it is asked for again.
fn judge(
    id: SlotId,
    question: &mut Question,
    found: Result<Vec<SocketAddr>, String>,
) -> Option<Answer> {
    let now = Instant::now();
    question.due = now + EVERY;
    let first = found.and_then(|addresses| {
        let usable = |address: &&SocketAddr| !is_useless(address.ip());
        let kept = addresses
            .iter()
            .find(|address| Some(**address) == question.current);
        kept.or_else(|| addresses.iter().find(usable))
            .copied()
            .ok_or_else(|| "no address".to_owned())
    });
    match first {
        Ok(address) if question.current == Some(address) => {
            let recovered = std::mem::take(&mut question.failed);
            recovered.then_some(Answer::Recovered(id))
        }
        Ok(address) => {
            question.current = Some(address);
            question.failed = false;
            Some(Answer::Address(id, address))
        }
        Err(why) => {
            if question.current.is_none() {
                question.due = now + RETRY;
            }
            let before = std::mem::replace(&mut question.failed, true);
            (!before).then_some(Answer::Failed(id, why))
        }
    }
}

/// Answers that name no host, as block lists give them.
fn is_useless(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            name: "x".into(),
            port: 1,
            current: None,
            failed: false,
            due: Instant::now(),
        }
    }

    fn addresses(of: &[&str]) -> Result<Vec<SocketAddr>, String> {
        Ok(of.iter().map(|text| text.parse().unwrap()).collect())
    }

    const ID: SlotId = SlotId(3);

    #[test]
    fn an_address_stays_while_it_is_among_the_answers() {
        let mut question = question();
        let (a, b) = ("10.0.0.1:1", "10.0.0.2:1");
        let first = judge(ID, &mut question, addresses(&[a, b]));
        assert_eq!(first, Some(Answer::Address(ID, a.parse().unwrap())));
        assert_eq!(judge(ID, &mut question, addresses(&[b, a])), None);
        let moved = judge(ID, &mut question, addresses(&[b]));
        assert_eq!(moved, Some(Answer::Address(ID, b.parse().unwrap())));
    }

    #[test]
    fn a_failure_is_told_once_and_its_end_too() {
        let mut question = question();
        let fail = || Err("Name or service not known".to_owned());
        let told = judge(ID, &mut question, fail());
        assert_eq!(
            told,
            Some(Answer::Failed(ID, "Name or service not known".into()))
        );
        assert!(question.due <= Instant::now() + RETRY);
        assert_eq!(judge(ID, &mut question, fail()), None);
        assert!(matches!(
            judge(ID, &mut question, addresses(&["10.0.0.1:1"])),
            Some(Answer::Address(..))
        ));
        // A name that resolved keeps its address through a failure.
        assert!(matches!(
            judge(ID, &mut question, fail()),
            Some(Answer::Failed(..))
        ));
        assert_eq!(
            judge(ID, &mut question, addresses(&["10.0.0.1:1"])),
            Some(Answer::Recovered(ID))
        );
        assert_eq!(judge(ID, &mut question, addresses(&["10.0.0.1:1"])), None);
    }

    #[test]
    fn block_lists_give_no_target() {
        let mut question = question();
        let told = judge(ID, &mut question, addresses(&["0.0.0.0:1"]));
        assert_eq!(told, Some(Answer::Failed(ID, "no address".into())));
    }

    #[test]
    fn the_thread_answers_what_it_is_asked_and_ends_with_its_owner() {
        let (questions, changes) = channel();
        let (answers_in, answers) = channel();
        let waker = sys::poll::Waker::new().unwrap();
        let thread = std::thread::spawn(move || {
            run(&changes, &answers_in, &waker, |name, port| {
                addresses(&[&format!("10.0.0.{}:{port}", name.len())])
            });
        });
        questions
            .send(Change::Add(SlotId(1), "abc".into(), 7))
            .unwrap();
        questions
            .send(Change::Add(SlotId(2), "abcd".into(), 8))
            .unwrap();
        let mut got = vec![answers.recv().unwrap(), answers.recv().unwrap()];
        got.sort_by_key(|answer| format!("{answer:?}"));
        assert_eq!(
            got,
            [
                Answer::Address(SlotId(1), "10.0.0.3:7".parse().unwrap()),
                Answer::Address(SlotId(2), "10.0.0.4:8".parse().unwrap()),
            ]
        );
        drop(questions);
        thread.join().unwrap();
    }
}
