//! When to try again, read from words.
//!
//! Providers say "try again in 1.3s", "in 6m0s", "in 20 seconds"; the CLI says "try again
//! at 4:46 AM" where that is today, else "at Nov 21st, 2026 4:46 AM", in local time; servers say
//! `Retry-After: 20` or give an HTTP date.

/// A later time is a misreading: no limit lasts longer.
const MAX_WAIT_MS: u64 = 366 * 24 * 3600 * 1000;

/// The CLI's clock has no seconds, and reading takes a moment: a time so little ago is now, not
/// tomorrow.
const JUST_NOW: i64 = 120;

const DAY: i64 = 24 * 3600;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Seconds since 1970.
    Unix(i64),
    /// The time of a local clock, as seconds since it showed the beginning of 1970. The caller, who
    /// knows the rules of daylight saving time, makes a point in time of it.
    Local(i64),
}

/// The wait after "try again in", in milliseconds, rounded up. The text is in lower case.
pub fn wait_ms(text: &str) -> Option<u64> {
    duration_ms(after(text, "try again in ")?)
}

/// The time after "try again at". The text is in lower case.
pub fn reset(text: &str, local_now: i64) -> Option<Reset> {
    let rest = after(text, "try again at ")?;
    if let Some(minutes) = clock(rest) {
        // The first time that the clock shows this, beginning just now.
        let midnight = local_now.checked_sub(local_now.rem_euclid(DAY))?;
        return (-1..=1)
            .map(|day| midnight.saturating_add(day * DAY + minutes * 60))
            .find(|time| *time >= local_now.saturating_sub(JUST_NOW))
            .map(Reset::Local);
    }
    let (month, rest) = month(rest)?;
    let (day, rest) = number(rest.trim_start())?;
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).strip_prefix(',')?;
    let (year, rest) = number(rest.trim_start())?;
    let minutes = clock(rest.trim_start())?;
    Some(Reset::Local(days(year, month, day)? * DAY + minutes * 60))
}

/// What a `Retry-After` header says: seconds, also with a fraction, or an HTTP date (any of its
/// three forms). Returns the wait in milliseconds, and the time where it is a date.
pub fn retry_after(value: &str, now: i64) -> Option<(u64, Option<Reset>)> {
    let value = value.trim();
    if value.starts_with(|c: char| c.is_ascii_digit()) {
        let seconds = value.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?;
        return milliseconds(seconds, 1000.0).map(|ms| (ms, None));
    }
    let at = http_date(&value.get(..value.len().min(64))?.to_ascii_lowercase())?;
    let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0).checked_mul(1000)?;
    (wait <= MAX_WAIT_MS).then_some((wait, Some(Reset::Unix(at))))
}

/// The last time counts: it is the one that the CLI adds.
fn after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    text.rfind(words).map(|at| &text[at + words.len()..])
}

/// `1.3s`, `718ms`, `6m0s`, `1h2m3s`, `20 seconds`, `5 minutes 3 seconds`.
fn duration_ms(mut text: &str) -> Option<u64> {
    let mut sum: Option<u64> = None;
    loop {
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (amount, rest) = text.split_at(end);
        let rest = rest.trim_start_matches(' ');
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let Some(ms) = unit_ms(unit).and_then(|unit| milliseconds(amount, unit)) else { break };
        sum = Some(sum.unwrap_or(0).saturating_add(ms));
        text = rest.trim_start_matches([' ', ',']);
        text = text.strip_prefix("and ").unwrap_or(text);
    }
    sum.filter(|ms| *ms <= MAX_WAIT_MS)
}

fn unit_ms(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
        "d" | "day" | "days" => 86_400_000.0,
        _ => return None,
    })
}

fn milliseconds(amount: &str, unit: f64) -> Option<u64> {
    // "20." ends a sentence.
    let amount: f64 = amount.trim_end_matches('.').parse().ok()?;
    // A float that is too large becomes the largest integer, and is refused.
    let ms = (amount * unit).ceil() as u64;
    (ms <= MAX_WAIT_MS).then_some(ms)
}

/// Minutes since midnight of `4:46 am`.
fn clock(text: &str) -> Option<i64> {
    let (hour, rest) = number(text)?;
    let (minute, rest) = number(rest.strip_prefix(':')?)?;
    let rest = rest.trim_start();
    let afternoon = match rest.get(..2)? {
        "am" => 0,
        "pm" => 12,
        _ => return None,
    };
    ((1..=12).contains(&hour) && minute < 60).then_some((hour % 12 + afternoon) * 60 + minute)
}

fn number(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.len() <= 4).then(|| digits.parse().ok().map(|number| (number, rest)))?
}

fn month(text: &str) -> Option<(i64, &str)> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let name = text.get(..3)?;
    let at = MONTHS.find(name).filter(|at| at % 3 == 0)?;
    Some((at as i64 / 3 + 1, &text[3..]))
}

/// Days since 1970-01-01, in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let index = usize::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    let long = i64::from(leap && month == 2);
    if !(1..=before[index] - before[index - 1] + long).contains(&day)
        || !(1970..=9999).contains(&year)
    {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    Some(
        (year - 1970) * 365 + leap_days + before[index - 1] + i64::from(leap && month > 2) + day
            - 1,
    )
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`;
/// in lower case.
fn http_date(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).collect();
    let (day, name, year, time) = match words.as_slice() {
        [_, day, name, year, time, "gmt"] => (day, name, year, time),
        [_, name, day, time, year] => (day, name, year, time),
        _ => return None,
    };
    let (month, "") = month(name)? else { return None };
    let year = match (year.len(), year.parse::<i64>().ok()?) {
        // Two digits are of this century, but for dates before this form was given up.
        (2, year) if year < 70 => 2000 + year,
        (2, year) => 1900 + year,
        (_, year) => year,
    };
    let mut parts = time.split(':').map(|part| part.parse::<u8>().ok().map(i64::from));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    let days = days(year, month, day.parse().ok()?)?;
    valid.then_some(days * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        for (text, ms) in [
            ("please try again in 1.3s.", 1300),
            ("please try again in 718ms. visit", 718),
            ("try again in 6m0s.", 360_000),
            ("try again in 1h2m3.5s", 3_723_500),
            ("try again in 20 seconds.", 20_000),
            ("try again in 5 minutes and 3 seconds or upgrade", 303_000),
            ("try again in 2 days", 172_800_000),
            ("try again in 0.0001s", 1),
            ("try again in 9s. try again in 3s", 3000),
        ] {
            assert_eq!(wait_ms(text), Some(ms), "{text}");
        }
        for text in [
            "try again in a moment",
            "try again in 5",
            "try again in 5 parsecs",
            "try again in ",
            "5s",
            "",
        ] {
            assert_eq!(wait_ms(text), None, "{text}");
        }
        let digits = "9".repeat(400);
        for text in [
            format!("try again in {digits}s"),
            format!("try again in {digits}.{digits}d"),
            "try again in .s".into(),
        ] {
            assert_eq!(wait_ms(&text), None, "{text}");
        }
        assert_eq!(wait_ms("try again in 367 days"), None);
    }

    // 2026-11-20T02:50:16, a Friday.
    const NOW: i64 = 1_795_143_016;

    fn at(text: &str, now: i64) -> Option<i64> {
        reset(text, now).map(|reset| match reset {
            Reset::Local(at) => at - NOW,
            Reset::Unix(_) => unreachable!("clocks are local"),
        })
    }

    #[test]
    fn clocks() {
        let minutes = |h: i64, m: i64| h * 3600 + m * 60 - (2 * 3600 + 50 * 60 + 16);
        for (text, from_now) in [
            ("or try again at 4:46 am.", minutes(4, 46)),
            ("try again at 12:05 pm.", minutes(12, 5)),
            ("try again at 12:05 am.", minutes(24, 5)),
            ("try again at 2:50 am.", minutes(2, 50)),
            ("try again at 2:40 am.", minutes(26, 40)),
            ("try again at nov 21st, 2026 4:46 am.", minutes(28, 46)),
            ("try again at dec 2nd, 2026 12:00 am", minutes(12 * 24, 0)),
            ("try again at nov 20th, 2026 2:00 am", minutes(2, 0)),
        ] {
            assert_eq!(at(text, NOW), Some(from_now), "{text}");
        }
        // Written before midnight, read after it.
        assert_eq!(
            at("try again at 11:59 pm.", NOW - minutes_of_day() + 5),
            Some(-minutes_of_day() - 60)
        );
    }

    fn minutes_of_day() -> i64 {
        NOW.rem_euclid(DAY)
    }

    #[test]
    fn times_that_are_none() {
        for text in [
            "try again at noon",
            "try again at 13:00 pm",
            "try again at 0:10 am",
            "try again at 4:60 am",
            "try again at 4:46",
            "try again at nov 31st, 2026 4:46 am",
            "try again at feb 29th, 2026 1:00 am",
            "try again at abc 1st, 2026 1:00 am",
            "try again at nov 2026",
            "try again at 99999999999:00 am",
            "try again at é",
            "try again later",
            "",
        ] {
            assert_eq!(reset(text, NOW), None, "{text}");
        }
        assert!(reset("try again at feb 29th, 2028 1:00 am", NOW).is_some());
        for now in [i64::MIN, i64::MAX] {
            let _ = reset("try again at 4:46 am", now);
        }
    }

    #[test]
    fn retry_after_headers() {
        assert_eq!(retry_after("20", NOW), Some((20_000, None)));
        assert_eq!(retry_after(" 1.5 ", NOW), Some((1500, None)));
        assert_eq!(retry_after("3 seconds", NOW), Some((3000, None)));
        let date = |text| retry_after(text, 784_111_770);
        let expected = Some((7000, Some(Reset::Unix(784_111_777))));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), expected);
        assert_eq!(date("Sunday, 06-Nov-94 08:49:37 GMT"), expected);
        assert_eq!(date("Sun Nov  6 08:49:37 1994"), expected);
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", NOW),
            Some((0, Some(Reset::Unix(784_111_777))))
        );
        for none in [
            "",
            "-5",
            "soon",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Abc 1994 08:49:37 GMT",
            "99999999999",
            "é",
        ] {
            assert_eq!(retry_after(none, NOW), None, "{none}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
        assert_eq!(days(2026, 11, 20), Some(NOW / DAY));
        assert_eq!(days(2100, 3, 1), Some(47_541));
        assert_eq!(days(2100, 2, 29), None);
    }
}
