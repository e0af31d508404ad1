//! (waits for the reflector)
use crate::cli::ReflectArgs;
use crate::exit::{Exit, Failure};

/// Runs it.
pub fn reflect(args: &ReflectArgs) -> anyhow::Result<Exit> {
    let plan = super::plan(args)?;
    let _ = super::listen(&plan, &mut std::io::stderr())?;
    Err(Failure::incomplete("the reflector is not there yet").into())
}
