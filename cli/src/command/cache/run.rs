//! From the subcommand to what carries it out.

use crate::{
    args::{CacheArgs, CacheCommand},
    command::{
        cache::{evict, stats, verify, warm},
        context::Context,
    },
    trouble::Trouble,
};

/// Carries the subcommand out.
///
/// # Errors
/// When the fleet refuses or does not answer, an agent does not answer, or damage was found.
pub async fn run(context: &Context, args: &CacheArgs) -> Result<(), Trouble> {
    match &args.command {
        CacheCommand::Stats(args) => stats::stats(context, args).await,
        CacheCommand::Warm(args) => warm::warm(context, args).await,
        CacheCommand::Evict(args) => evict::evict(context, args).await,
        CacheCommand::Verify(args) => verify::verify(context, args).await,
    }
}
