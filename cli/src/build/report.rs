//! Shows a build while it runs: one line a target on a terminal, plain lines on changes elsewhere.
//!
//! All of it goes to standard error; standard output is for results.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use meridian_proto::v1;

use crate::build::board::{End, lines};

/// Redraws of the live display, per second.
const REDRAW_HZ: u8 = 12;

/// Where progress is shown.
pub enum Report {
    /// Lines that redraw themselves.
    Live(Live),
    /// Lines that stay.
    Plain(Plain<io::Stderr>),
}

impl Report {
    /// A live report on a terminal, plain lines elsewhere and where the user wants no control sequences.
    #[must_use]
    pub fn to_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb {
            Self::Live(Live::new(ProgressDrawTarget::stderr_with_hz(REDRAW_HZ), wants_colour()))
        } else {
            Self::Plain(Plain::new(io::stderr()))
        }
    }

    /// Shows the build as it is now.
    pub fn show(&mut self, build: &v1::Build) {
        match self {
            Self::Live(live) => live.show(build),
            Self::Plain(plain) => plain.show(build),
        }
    }

    /// Says something beside the targets' lines.
    pub fn say(&mut self, text: &str) {
        match self {
            Self::Live(live) => live.say(text),
            Self::Plain(plain) => plain.say(text),
        }
    }

    /// Forgets the targets of a build that has ended, so that another one's can be shown.
    pub fn next_build(&mut self) {
        match self {
            Self::Live(live) => live.bars.clear(),
            Self::Plain(plain) => plain.shown.clear(),
        }
    }

    /// Leaves the last lines standing.
    pub fn end(&mut self) {
        if let Self::Live(live) = self {
            live.end();
        }
    }
}

/// Whether a person is there who can be asked for a password.
#[must_use]
pub fn asks_for_input() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether colours are wanted: not with `NO_COLOR` set to anything (see no-color.org).
#[must_use]
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One line a target, redrawn in place.
pub struct Live {
    all: MultiProgress,
    bars: BTreeMap<u32, ProgressBar>,
    colour: bool,
}

impl Live {
    fn new(target: ProgressDrawTarget, colour: bool) -> Self {
        Self { all: MultiProgress::with_draw_target(target), bars: BTreeMap::new(), colour }
    }

    fn show(&mut self, build: &v1::Build) {
        let lines = lines(build);
        let width = lines.iter().map(|line| line.label.len()).max().unwrap_or(0);
        for line in lines {
            let bar = self.bars.entry(line.ordinal).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_style(style(None, self.colour));
                bar
            });
            if bar.is_finished() {
                continue;
            }
            bar.set_prefix(format!("{:width$}", line.label));
            if line.end.is_some() {
                bar.set_style(style(line.end, self.colour));
                bar.finish_with_message(line.now);
            } else {
                bar.set_message(line.now);
            }
        }
    }

    fn say(&mut self, text: &str) {
        // A terminal that is gone is noticed by whoever watches for signals.
        let _ = self.all.println(text);
    }

    fn end(&mut self) {
        for bar in self.bars.values().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

fn style(end: Option<End>, colour: bool) -> ProgressStyle {
    let template = match (end, colour) {
        (None, true) => "{spinner:.cyan} {prefix:.bold} {wide_msg}",
        (Some(End::Succeeded), true) => "\u{1b}[32m✓\u{1b}[0m {prefix:.bold} {wide_msg}",
        (Some(End::Failed), true) => "\u{1b}[31m✗\u{1b}[0m {prefix:.bold} {wide_msg}",
        (None, false) => "{spinner} {prefix} {wide_msg}",
        (Some(End::Succeeded), false) => "✓ {prefix} {wide_msg}",
        (Some(End::Failed), false) => "✗ {prefix} {wide_msg}",
        (Some(End::Cancelled), _) => "- {prefix} {wide_msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A line for each change of a target's stage.
pub struct Plain<W> {
    out: W,
    shown: BTreeMap<u32, String>,
}

impl<W: Write> Plain<W> {
    /// Writes its lines to `out`.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self { out, shown: BTreeMap::new() }
    }

    fn show(&mut self, build: &v1::Build) {
        for line in lines(build) {
            if self.shown.get(&line.ordinal) == Some(&line.stage) {
                continue;
            }
            // Progress that nobody can read must not end the build.
            let _ = writeln!(self.out, "{}: {}", line.label, line.now);
            self.shown.insert(line.ordinal, line.stage);
        }
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use meridian_proto::v1::{Phase, task::State};

    use super::*;
    use crate::build::board::tests::{build, leased, platform, task};

    fn at(states: [(State, Option<v1::Progress>); 2]) -> v1::Build {
        let platforms = ["amd64", "arm64"].map(|arch| platform("linux", arch, ""));
        let tasks = (0..).zip(platforms).zip(states).map(|((ordinal, platform), (state, progress))| {
            v1::Task { progress, ..task(ordinal, platform, state) }
        });
        build(tasks.collect())
    }

    #[test]
    fn plain_lines_are_printed_only_on_changes() {
        let queued = || (State::Queued(v1::task::Queued {}), None);
        let done = || (State::Succeeded(v1::task::Succeeded { at_ms: 1_200, ..Default::default() }), None);
        let mut plain = Plain::new(Vec::new());
        plain.show(&at([queued(), queued()]));
        plain.show(&at([leased(Phase::Toolchain, 0, 0, "go1.27.3"), queued()]));
        plain.show(&at([leased(Phase::Compile, 1, 80, ""), queued()]));
        plain.show(&at([leased(Phase::Compile, 40, 80, ""), leased(Phase::Compile, 0, 80, "")]));
        plain.say("coordinator away, reconnecting…");
        plain.show(&at([leased(Phase::Upload, 1024, 2048, ""), leased(Phase::Compile, 79, 80, "")]));
        plain.show(&at([done(), done()]));
        plain.show(&at([done(), done()]));
        let expected = include_str!("../../golden/progress_plain.txt");
        assert_eq!(String::from_utf8(plain.out).unwrap(), expected);
    }

    #[test]
    fn every_live_style_is_a_template_that_parses() {
        for colour in [true, false] {
            for end in [None, Some(End::Succeeded), Some(End::Failed), Some(End::Cancelled)] {
                let hidden = Live::new(ProgressDrawTarget::hidden(), colour);
                drop(hidden);
                // `style` falls back silently, so the template is checked by what it renders.
                let bar = ProgressBar::hidden().with_style(style(end, colour)).with_prefix("p");
                bar.tick();
            }
        }
    }
}
