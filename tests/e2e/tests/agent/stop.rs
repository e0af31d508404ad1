//! The end of the agent when it is not waited for.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use netsonde_e2e as e2e;

use crate::Named;
use crate::rig::{Agent, Place};

pub(crate) fn trials() -> Vec<Trial> {
    let binary = || e2e::netsonde().err().map(|error| error.to_string());
    let tests: [Named; 1] = [(
        "records_are_finished_at_a_second_signal",
        records_are_finished_at_a_second_signal,
    )];
    tests
        .into_iter()
        .map(|(name, test)| e2e::trial(name, binary, test))
        .collect()
}

fn records_are_finished_at_a_second_signal() -> Result<()> {
    let place = Place::new()?;
    let address = &place.address;
    // It takes every probe and answers none: they are in flight for the whole wait.
    let _silent = UdpSocket::bind(format!("{address}:18622"))?;
    let config = place.configure(&format!(
        "{}[[probe]]\nname = \"silent\"\ntargets = [\"{address}\"]\nprotocol = \"stamp\"\n\
         port = 18622\ninterval = \"20ms\"\nwait = \"20s\"\n",
        place.reflector_and_probe()
    ))?;
    // A disk that is full shows whether the writer was asked how it ended.
    let mut agent = Agent::start(&config, &["--records", "/dev/full"], &[])?;
    agent.until_metric("netsonde_probe_sent_packets_total{probe=\"silent\"", |n| {
        n >= 10.0
    })?;
    agent.signal("TERM")?;
    agent.logged("agent_stopping")?;
    agent.signal("TERM")?;
    let said = agent.logged("netsonde: ")?;
    ensure!(said.contains("probes in flight were given up"), "{said}");
    ensure!(said.contains("--records cannot be written"), "{said}");
    ensure!(agent.end()?.code() == Some(5));
    Ok(())
}
