//! Follows a build to its end, through restarts of the coordinator and past Ctrl-C.

use std::time::{Duration, Instant};

use meridian_proto::v1::{self, BuildState};
use tonic::Status;

use crate::{
    build::{
        interrupt::{Interrupts, Wish},
        patience::Patience,
        report::Report,
    },
    command::print,
    fleet::{
        client::{ask, explain_status, is_away, reason},
        select::Fleet,
    },
    trouble::Trouble,
};

/// What a command was doing when the coordinator went away.
#[derive(Debug, Clone, Copy)]
pub enum Doing<'a> {
    /// Giving the source to the fleet.
    Uploading,
    /// Asking for a build.
    Submitting,
    /// Following this build, which the coordinator has.
    Following(&'a str),
    /// Getting what was built.
    Fetching,
}

impl Doing<'_> {
    const fn words(self) -> &'static str {
        match self {
            Self::Uploading => "upload the source",
            Self::Submitting => "submit the build",
            Self::Following(_) => "follow the build",
            Self::Fetching => "fetch the artifacts",
        }
    }
}

/// How a build was left.
#[derive(Debug)]
pub enum Followed {
    /// It has ended.
    Ended(Box<v1::Build>),
    /// The user gave it up, and the coordinator knows.
    Cancelled,
}

/// Shows `build` until it has ended.
///
/// # Errors
/// When the coordinator stays away, or refuses to show the build.
pub async fn follow(
    fleet: &mut Fleet,
    build: &str,
    report: &mut Report,
    interrupts: &mut Interrupts,
) -> Result<Followed, Trouble> {
    let mut patience = Patience::default();
    let mut cursor = 0;
    loop {
        let watched = tokio::select! {
            watched = watch(fleet, build, &mut cursor, report, &mut patience) => watched,
            () = until_cancelled(build, interrupts) => {
                cancel(fleet, build).await?;
                return Ok(Followed::Cancelled);
            }
        };
        let status = match watched {
            Ok(Some(ended)) => return Ok(Followed::Ended(ended)),
            // The stream closed in good order: the coordinator is stopping, or dropped a slow reader.
            Ok(None) => Status::unavailable("the coordinator closed the stream"),
            Err(status) if is_away(&status) => status,
            Err(status) => return Err(explain_status("watch the build", &status)),
        };
        let reconnect = wait_and_reconnect(fleet, Doing::Following(build), report, &mut patience, &status);
        tokio::select! {
            reconnected = reconnect => reconnected?,
            () = until_cancelled(build, interrupts) => {
                cancel(fleet, build).await?;
                return Ok(Followed::Cancelled);
            }
        }
    }
}

/// Follows one stream. `Ok(None)` when it closed before the build had ended.
async fn watch(
    fleet: &Fleet,
    build: &str,
    cursor: &mut u64,
    report: &mut Report,
    patience: &mut Patience,
) -> Result<Option<Box<v1::Build>>, Status> {
    let request = v1::WatchRequest { build: build.to_owned(), after_revision: *cursor };
    let mut stream = fleet.client.builds().watch(request).await?.into_inner();
    if patience.is_waiting() {
        report.say("coordinator is back");
    }
    patience.reset();
    while let Some(message) = stream.message().await? {
        let Some(state) = message.build else { continue };
        *cursor = state.revision;
        report.show(&state);
        if has_ended(&state) {
            return Ok(Some(Box::new(state)));
        }
    }
    Ok(None)
}

/// Whether a build has ended.
#[must_use]
pub fn has_ended(build: &v1::Build) -> bool {
    !matches!(build.state(), BuildState::Running | BuildState::Unspecified)
}

/// Waits for the next try; makes a local fleet run again.
///
/// # Errors
/// When the coordinator has been away for too long, or the user has stopped the local fleet.
pub async fn wait_and_reconnect(
    fleet: &mut Fleet,
    doing: Doing<'_>,
    report: &mut Report,
    patience: &mut Patience,
    status: &Status,
) -> Result<(), Trouble> {
    if let Some(news) = patience.news(fleet.client.address(), &reason(status)) {
        report.say(&news);
    }
    let Some(wait) = patience.next_wait(Instant::now()) else {
        let (address, place) = (fleet.client.address(), fleet.place());
        return Err(stayed_away(doing, patience.away_max(), address, &place, status));
    };
    tokio::time::sleep(wait).await;
    fleet.reconnect().await
}

/// The coordinator at `address`, which is `place`, did not answer for as long as `waited`.
fn stayed_away(doing: Doing<'_>, waited: Duration, address: &str, place: &str, status: &Status) -> Trouble {
    let minutes = waited.as_secs() / 60;
    let mut trouble = explain_status(doing.words(), status);
    if !trouble.message.contains(address) {
        trouble.message += &format!(" (the coordinator at {address})");
    }
    let away = format!("no answer for {minutes} min from {place}");
    match doing {
        Doing::Following(build) => trouble
            .hint(format_args!("{build} was submitted, and goes on when the coordinator is back; {away}")),
        _ => trouble.hint(away),
    }
}

/// Returns when the user really wants `builds` to be cancelled.
pub async fn until_cancelled(builds: &str, interrupts: &mut Interrupts) {
    while interrupts.next().await == Wish::Ask {
        let ask = "cancel the build? press Ctrl-C again to cancel; it goes on otherwise";
        print::aside(&format!("\n{builds}: {ask}"));
    }
}

/// Gives a build up.
///
/// # Errors
/// When the coordinator cannot be told.
pub async fn cancel(fleet: &Fleet, build: &str) -> Result<(), Trouble> {
    let request = v1::CancelBuildRequest { build: build.to_owned() };
    ask("cancel the build", fleet.client.builds().cancel(request)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_that_stays_away_is_told_with_what_was_being_done_and_what_goes_on() {
        let status = Status::unavailable("refused");
        let told = |doing| {
            let (waited, address) = (Duration::from_secs(60), "h.example:1");
            stayed_away(doing, waited, address, "the fleet `demo`", &status).to_string()
        };
        for (doing, words) in [
            (Doing::Uploading, "cannot upload the source: refused"),
            (Doing::Submitting, "cannot submit the build: refused"),
            (Doing::Fetching, "cannot fetch the artifacts: refused"),
        ] {
            let text = told(doing);
            assert!(text.contains(words) && text.contains("1 min from the fleet `demo`"), "{text}");
            assert!(text.contains("the coordinator at h.example:1"), "{text}");
            assert!(!text.contains("submitted"), "{text}");
        }
        let text = told(Doing::Following("a/x/1"));
        assert!(text.contains("cannot follow the build: refused"), "{text}");
        assert!(text.contains("a/x/1 was submitted, and goes on"), "{text}");
    }
}
