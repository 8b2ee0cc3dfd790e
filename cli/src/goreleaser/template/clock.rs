//! Go's way of writing times: by an example of the moment `Mon Jan 2 15:04:05 2006`.
//!
//! Everything is UTC, as in GoReleaser's templates.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment in parts.
#[derive(Debug, Clone, Copy)]
struct Moment {
    year: i64,
    /// From 1.
    month: u32,
    /// From 1.
    day: u32,
    /// From 0, Sunday.
    weekday: u32,
    /// From 1.
    day_of_year: u32,
    hour: u32,
    minute: u32,
    second: u32,
    ms: u32,
}

/// What an element of a layout stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    LongYear,
    ShortYear,
    MonthName,
    MonthShort,
    Month {
        is_padded: bool,
    },
    DayName,
    DayShort,
    Day(Pad),
    DayOfYear(Pad),
    Hour24,
    Hour12 {
        is_padded: bool,
    },
    Minute {
        is_padded: bool,
    },
    Second {
        is_padded: bool,
    },
    Half {
        is_upper: bool,
    },
    /// `MST`
    Zone,
    /// `Z07:00` and its like, which are `Z` in UTC.
    ZoneOrZ,
    /// `-07:00` and its like: the zeros of UTC.
    Offset(&'static str),
    /// A fraction with its separator: how many digits, and whether zeros at its end go.
    Fraction {
        digits: usize,
        is_trimmed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pad {
    None,
    Zero,
    Blank,
}

/// Elements that begin with a fixed text, longest first where one begins another.
const ELEMENTS: [(&str, Element); 33] = [
    ("January", Element::MonthName),
    ("Monday", Element::DayName),
    ("MST", Element::Zone),
    ("2006", Element::LongYear),
    ("002", Element::DayOfYear(Pad::Zero)),
    ("01", Element::Month { is_padded: true }),
    ("02", Element::Day(Pad::Zero)),
    ("03", Element::Hour12 { is_padded: true }),
    ("04", Element::Minute { is_padded: true }),
    ("05", Element::Second { is_padded: true }),
    ("06", Element::ShortYear),
    ("15", Element::Hour24),
    ("1", Element::Month { is_padded: false }),
    ("2", Element::Day(Pad::None)),
    ("__2", Element::DayOfYear(Pad::Blank)),
    ("_2", Element::Day(Pad::Blank)),
    ("3", Element::Hour12 { is_padded: false }),
    ("4", Element::Minute { is_padded: false }),
    ("5", Element::Second { is_padded: false }),
    ("PM", Element::Half { is_upper: true }),
    ("pm", Element::Half { is_upper: false }),
    ("Z070000", Element::ZoneOrZ),
    ("Z07:00:00", Element::ZoneOrZ),
    ("Z0700", Element::ZoneOrZ),
    ("Z07:00", Element::ZoneOrZ),
    ("Z07", Element::ZoneOrZ),
    ("-070000", Element::Offset("+000000")),
    ("-07:00:00", Element::Offset("+00:00:00")),
    ("-0700", Element::Offset("+0000")),
    ("-07:00", Element::Offset("+00:00")),
    ("-07", Element::Offset("+00")),
    // A short name is none when a lower-case letter follows it: `Janet`.
    ("Jan", Element::MonthShort),
    ("Mon", Element::DayShort),
];

/// A moment in a layout of Go's.
pub(super) fn format(layout: &str, ms: i64) -> String {
    let moment = Moment::of(ms);
    let mut text = String::with_capacity(layout.len() + 16);
    let mut at = 0;
    while let Some(rest) = layout.get(at..).filter(|rest| !rest.is_empty()) {
        match element(layout, at) {
            Some((element, len)) => {
                if matches!(element, Element::Fraction { .. }) {
                    moment.write_fraction(&mut text, element, &rest[..1]);
                } else {
                    moment.write(&mut text, element);
                }
                at += len;
            }
            None => {
                let len = rest.chars().next().map_or(1, char::len_utf8);
                text.push_str(&rest[..len]);
                at += len;
            }
        }
    }
    text
}

/// The element that begins at a byte of a layout, and its length there.
fn element(layout: &str, at: usize) -> Option<(Element, usize)> {
    let rest = layout.get(at..)?;
    if rest.starts_with(['.', ',']) {
        return fraction(rest);
    }
    // `_2006` is an underscore and a year.
    if rest.starts_with("_2006") {
        return None;
    }
    let (name, element) = ELEMENTS.iter().find(|(name, element)| {
        let is_short = matches!(element, Element::MonthShort | Element::DayShort);
        rest.strip_prefix(name)
            .is_some_and(|after| !(is_short && after.starts_with(|c: char| c.is_ascii_lowercase())))
    })?;
    Some((*element, name.len()))
}

/// `.000` or `.999`, when no other digit follows.
fn fraction(rest: &str) -> Option<(Element, usize)> {
    let digit = rest[1..].chars().next().filter(|digit| matches!(digit, '0' | '9'))?;
    let digits = rest[1..].chars().take_while(|c| *c == digit).count();
    let is_followed = rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit());
    let element = Element::Fraction { digits, is_trimmed: digit == '9' };
    (!is_followed).then_some((element, 1 + digits))
}

/// `2006-01-02T15:04:05Z`, as RFC 3339 writes a moment in UTC.
#[must_use]
pub fn rfc3339(seconds: i64) -> String {
    format("2006-01-02T15:04:05Z07:00", seconds.saturating_mul(1000))
}

/// As Go prints a time: `2006-01-02 15:04:05.999 +0000 UTC`.
pub(super) fn go_string(ms: i64) -> String {
    format("2006-01-02 15:04:05.999999999 -0700 MST", ms)
}

pub(super) fn year(ms: i64) -> i64 {
    Moment::of(ms).year
}

impl Moment {
    fn of(ms: i64) -> Self {
        let seconds = ms.div_euclid(1000);
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        // Each of these is far below its type's limit.
        let small = |value: i64| u32::try_from(value).unwrap_or_default();
        Self {
            year,
            month,
            day,
            weekday: small((days + 4).rem_euclid(7)),
            day_of_year: small(days - days_before(year) + 1),
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            ms: small(ms.rem_euclid(1000)),
        }
    }

    fn write(&self, text: &mut String, element: Element) {
        let name = |names: &'static [&'static str], index: u32| {
            names.get(index as usize).copied().unwrap_or_default()
        };
        let month = name(&MONTHS, self.month.wrapping_sub(1));
        let weekday = name(&DAYS, self.weekday);
        let hour12 = if self.hour.is_multiple_of(12) { 12 } else { self.hour % 12 };
        let padded = |value: u32, is_padded: bool| {
            if is_padded { format!("{value:02}") } else { value.to_string() }
        };
        text.push_str(&match element {
            Element::LongYear => format!("{:04}", self.year),
            Element::ShortYear => format!("{:02}", self.year.rem_euclid(100)),
            Element::MonthName => month.to_owned(),
            Element::MonthShort => month.chars().take(3).collect(),
            Element::Month { is_padded } => padded(self.month, is_padded),
            Element::DayName => weekday.to_owned(),
            Element::DayShort => weekday.chars().take(3).collect(),
            Element::Day(Pad::Blank) => format!("{:2}", self.day),
            Element::Day(pad) => padded(self.day, pad == Pad::Zero),
            Element::DayOfYear(Pad::Blank) => format!("{:3}", self.day_of_year),
            Element::DayOfYear(_) => format!("{:03}", self.day_of_year),
            Element::Hour24 => format!("{:02}", self.hour),
            Element::Hour12 { is_padded } => padded(hour12, is_padded),
            Element::Minute { is_padded } => padded(self.minute, is_padded),
            Element::Second { is_padded } => padded(self.second, is_padded),
            Element::Half { is_upper } => {
                let half = if self.hour < 12 { "AM" } else { "PM" };
                if is_upper { half.to_owned() } else { half.to_ascii_lowercase() }
            }
            Element::Zone => "UTC".to_owned(),
            Element::ZoneOrZ => "Z".to_owned(),
            Element::Offset(zeros) => zeros.to_owned(),
            Element::Fraction { .. } => String::new(),
        });
    }

    fn write_fraction(&self, text: &mut String, element: Element, separator: &str) {
        let Element::Fraction { digits, is_trimmed } = element else { return };
        // Go writes no more than nanoseconds; ours end with milliseconds.
        let all = format!("{:03}000000", self.ms);
        let kept = &all[..digits.min(all.len())];
        let kept = if is_trimmed { kept.trim_end_matches('0') } else { kept };
        if !(is_trimmed && kept.is_empty()) {
            text.push_str(separator);
            text.push_str(kept);
        }
    }
}

/// Year, month and day of a day since the Unix epoch, in the proleptic Gregorian calendar.
///
/// The era arithmetic of Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is
/// the last of its year.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or_default(), u32::try_from(day).unwrap_or_default())
}

/// The day since the Unix epoch on which a year begins.
fn days_before(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}
