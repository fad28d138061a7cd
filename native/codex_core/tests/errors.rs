//! Classification from outside: the order of the rows, and that no input breaks it.

use codex_core::errors::{End, Failure, Kind, REACH, Reset, classify, last_words, retry_after};
use proptest::prelude::*;

fn text(text: &str) -> Failure<'_> {
    Failure { text: text.as_bytes(), ..Failure::default() }
}

fn kind(failure: &Failure) -> Kind {
    classify(failure).kind
}

#[test]
fn error_info_comes_before_the_status_and_the_status_before_the_words() {
    let words = text("selected model is at capacity");
    assert_eq!(kind(&words), Kind::Overloaded);
    let status = Failure { http_status: Some(403), ..words };
    assert_eq!(kind(&status), Kind::Forbidden);
    let info = Failure { info: Some("contextWindowExceeded"), ..status };
    assert_eq!(kind(&info), Kind::ContextWindow);
    for silent in
        ["other", "httpConnectionFailed", "responseTooManyFailedAttempts", "aNameOfTomorrow"]
    {
        assert_eq!(kind(&Failure { info: Some(silent), ..status }), Kind::Forbidden, "{silent}");
        assert_eq!(kind(&Failure { info: Some(silent), ..words }), Kind::Overloaded, "{silent}");
    }
}

#[test]
fn a_body_in_json_is_read() {
    let body = r#"{"error": {"message": "Too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}"#;
    assert_eq!(kind(&text(body)), Kind::ContextWindow);
    assert_eq!(
        kind(&text(
            r#"{"detail": "The 'x' model is not supported when using Codex with a ChatGPT account."}"#
        )),
        Kind::ModelNotFound
    );
    assert_eq!(kind(&text(r#"{"error": "rate limit"}"#)), Kind::RateLimit);
    for nothing in
        ["{", "{}", r#"{"error": null}"#, r#"{"error": {"code": 5}}"#, &"{\"error\":".repeat(3000)]
    {
        assert_eq!(kind(&text(nothing)), Kind::Unknown, "{nothing:.40}");
    }
}

#[test]
fn stderr_counts_only_where_the_cli_announces_an_error() {
    let ended = |text, status| Failure {
        text,
        ended: Some(End { status: Some(status), signal: None, started: true }),
        ..Failure::default()
    };
    assert_eq!(kind(&ended(b"ERROR: unexpected status 403 Forbidden: x", 1)), Kind::Forbidden);
    assert_eq!(kind(&ended(b"a server said: rate limit", 1)), Kind::Crashed);
    assert_eq!(
        kind(&ended(b"2026-11-20T02:38:49.531145Z ERROR codex_core: Quota exceeded", 1)),
        Kind::Interrupted
    );
    assert_eq!(kind(&ended(b"", 1)), Kind::Interrupted);
    assert_eq!(kind(&ended(b"", 3)), Kind::Crashed);
    assert_eq!(kind(&ended(b"", 0)), Kind::Protocol);
    let usage = "error: unexpected argument '--x' found\n\nFor more information, try '--help'.";
    assert_eq!(kind(&ended(usage.as_bytes(), 2)), Kind::CliUnsupported);
    // The same words in a turn's failure are the model provider's, not the CLI's.
    assert_eq!(kind(&text(usage)), Kind::Unknown);
    let silent = Failure {
        ended: Some(End { status: Some(1), signal: None, started: false }),
        ..Failure::default()
    };
    assert_eq!(kind(&silent), Kind::Crashed);
}

#[test]
fn what_stands_in_the_middle_of_a_long_text_is_not_looked_at() {
    let filler = "x ".repeat(REACH);
    assert_eq!(kind(&text(&format!("{filler} rate limit {filler}"))), Kind::Unknown);
    assert_eq!(kind(&text(&format!("{filler}{filler} rate limit"))), Kind::RateLimit);
    assert_eq!(kind(&text(&format!("rate limit {filler}{filler}"))), Kind::RateLimit);
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..2000), now in any::<i64>(), status in any::<u16>()) {
        let failure = Failure { text: &bytes, http_status: Some(status), now, local_now: now, ..Failure::default() };
        let _ = classify(&failure);
        let ended = Some(End { status: Some(1), signal: None, started: false });
        let _ = classify(&Failure { ended, ..failure });
        prop_assert!(last_words(&bytes).len() <= 3 * REACH);
    }

    #[test]
    fn no_words_about_time_break_it(
        words in "(try again (in|at) )?([0-9]{0,25}[.:]?[0-9]{0,4} ?(ms|s|m|h|d|am|pm|seconds|nov|st|,)? ?){0,6}",
        now in any::<i64>(),
    ) {
        let verdict = classify(&Failure { text: words.as_bytes(), now, local_now: now, ..Failure::default() });
        prop_assert!(verdict.wait_ms.unwrap_or(0) <= 366 * 24 * 3600 * 1000);
        let _ = retry_after(&words, now);
    }

    #[test]
    fn words_without_a_pattern_are_unknown(words in "[b-z ]{0,40}[aeiou]?") {
        prop_assume!(!["model", "limit", "quota", "sandbox"].iter().any(|word| words.contains(word)));
        let verdict = classify(&text(&words));
        prop_assert_eq!((verdict.kind, verdict.retryable, verdict.wait_ms, verdict.resets), (Kind::Unknown, false, None, None));
    }

    #[test]
    fn the_clock_of_the_cli_is_read_back(minutes in 0i64..1440, now in 1_000_000_000i64..3_000_000_000) {
        // As the CLI writes a time of today.
        let (hour, minute) = (minutes / 60, minutes % 60);
        let text = format!(
            "You\u{2019}ve hit your usage limit. Try again at {}:{minute:02} {}.",
            if hour % 12 == 0 { 12 } else { hour % 12 },
            if hour < 12 { "AM" } else { "PM" },
        );
        let verdict = classify(&Failure { text: text.as_bytes(), local_now: now, ..Failure::default() });
        prop_assert_eq!(verdict.kind, Kind::UsageLimit);
        let Some(Reset::Local(at)) = verdict.resets else { panic!("no time in {text}") };
        prop_assert_eq!(at.rem_euclid(86_400), minutes * 60);
        prop_assert!((now - 120..now + 86_400).contains(&at));
    }
}
