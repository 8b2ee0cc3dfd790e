//! Values whose form can be judged where they are given, so that a mistake is one of the command line.

use meridian_agent::signer::UserChoice;
use meridian_core::{
    id::{AgentId, ProjectId, RegionName},
    time::Wall,
};
use meridian_runtime::config::{HOST_PORT, Kind};
use meridian_trust::timestamp::Timestamp;

use crate::command::print::now_ms;

/// Where a coordinator is: `HOST:PORT`.
pub(super) fn address(text: &str) -> Result<String, String> {
    if let Kind::Parsed { expected, check } = HOST_PORT {
        check(text).map_err(|error| format!("expected {expected}: {error}"))?;
    }
    Ok(text.to_owned())
}

/// Whose builds: `TEAM/PROJECT`.
pub(super) fn project(text: &str) -> Result<String, String> {
    let parsed = text.parse::<ProjectId>().map(|_| text.to_owned());
    parsed.map_err(|error| error.to_string())
}

/// An agent: `REGION/NAME`.
pub(super) fn agent(text: &str) -> Result<String, String> {
    let parsed = text.parse::<AgentId>().map(|_| text.to_owned());
    parsed.map_err(|error| format!("{error}; `meridian agents` lists them"))
}

/// A moment: `now`, or a time in UTC to the minute, the second or the millisecond.
pub(super) fn moment(text: &str) -> Result<Wall, String> {
    if text == "now" {
        // To the second, as it is shown: whoever repeats what was shown means this moment.
        return Ok(Wall(now_ms() / 1_000 * 1_000));
    }
    let whole = match text.strip_suffix('Z') {
        Some(minute) if text.len() == "2026-11-22T22:00Z".len() => format!("{minute}:00.000Z"),
        Some(second) if text.len() == "2026-11-22T22:00:00Z".len() => format!("{second}.000Z"),
        _ => text.to_owned(),
    };
    let wrong = |_| format!("{text:?} is neither `now` nor a time in UTC such as 2026-11-22T22:00Z");
    whole.parse::<Timestamp>().map(Timestamp::wall).map_err(wrong)
}

/// A region's name.
pub(super) fn region(text: &str) -> Result<String, String> {
    RegionName::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A user of this machine: a name or a number.
pub(super) fn user(text: &str) -> Result<UserChoice, String> {
    if text.contains(':') {
        return Err("expected a user's name or number, without a group".to_owned());
    }
    let choice = text.parse::<UserChoice>().map_err(|error| error.to_string())?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    // The highest number means nobody to the kernel.
    if is_number && !text.parse::<u32>().is_ok_and(|uid| uid < u32::MAX) {
        return Err(format!("no user has that number: they go from 0 to {}", u32::MAX - 1));
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::{agent, moment, region, user};

    #[test]
    fn an_agent_or_a_region_that_can_be_none_is_a_mistake_of_the_command_line() {
        assert!(agent("nosuch").unwrap_err().contains("expected REGION/NAME"));
        assert_eq!(agent("eu/a1").unwrap(), "eu/a1");
        assert!(region("EU West").is_err() && region("eu-west").is_ok());
    }

    #[test]
    fn a_moment_is_now_or_a_time_in_utc_as_exact_as_one_likes() {
        let whole = moment("2026-11-22T22:00:00.000Z").unwrap();
        assert_eq!(whole.utc(), "2026-11-22T22:00:00Z");
        for text in ["2026-11-22T22:00Z", "2026-11-22T22:00:00Z"] {
            assert_eq!(moment(text).unwrap(), whole);
        }
        let now = moment("now").unwrap();
        assert!(now > whole && moment(&now.utc()) == Ok(now), "{}", now.utc());
        for text in ["", "22:00", "2026-11-22", "2026-11-22T22:00", "2026-13-22T22:00Z", "tomorrow"] {
            assert!(moment(text).unwrap_err().contains("2026-11-22T22:00Z"), "{text}");
        }
    }

    #[test]
    fn a_number_that_no_user_can_have_is_no_user() {
        for text in ["4294967295", "99999999999", "1:2", ""] {
            assert!(user(text).is_err(), "{text}");
        }
        assert!(user("99999999999").unwrap_err().contains("to 4294967294"));
        for text in ["0", "4294967294", "meridian"] {
            assert_eq!(user(text).unwrap().to_string(), text);
        }
    }
}
