//! Makes frames in the kernel: `generator DEVICE TO-HARDWARE FRAMES [--flows N] [--rate N]
//! [--bytes N]`, in the namespace that it is started in, from the processor that it is
//! started on (`taskset`). Prints how many were made and how long that took.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use ebpf::generator::{Generator, Plan};

fn hardware(text: &str) -> Result<[u8; 6]> {
    let parts: Vec<&str> = text.trim().split(':').collect();
    ensure!(parts.len() == 6, "no hardware address: {text}");
    let mut hardware = [0; 6];
    for (byte, part) in hardware.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16)?;
    }
    Ok(hardware)
}

fn main() -> Result<()> {
    let usage = "generator DEVICE TO-HARDWARE FRAMES [--flows N] [--rate N] [--bytes N]";
    let mut words = std::env::args().skip(1);
    let device = words.next().context(usage)?;
    let to = hardware(&words.next().context(usage)?)?;
    let frames = words.next().context(usage)?.parse()?;
    let own = std::fs::read_to_string(format!("/sys/class/net/{device}/address"))?;
    let mut plan = Plan {
        from: hardware(&own)?,
        to,
        source: Ipv4Addr::new(172, 16, 0, 1),
        destination: Ipv4Addr::new(192, 0, 2, 1),
        port: 443,
        frame_bytes: 60,
        flows: 1,
        rate: None,
    };
    while let Some(word) = words.next() {
        let value = words.next().context(usage)?;
        match word.as_str() {
            "--flows" => plan.flows = value.parse()?,
            "--rate" => plan.rate = Some(value.parse()?),
            "--bytes" => plan.frame_bytes = value.parse()?,
            _ => bail!("{usage}"),
        }
    }
    let mut generator = Generator::load(&plan)?;
    let took = generator.run(sys::device::index(&device)?, frames)?;
    let sent = generator.sent()?;
    println!(
        "{sent} frames in {:.3} s, {:.3} M/s",
        took.as_secs_f64(),
        sent as f64 / took.as_secs_f64() / 1e6
    );
    Ok(())
}
