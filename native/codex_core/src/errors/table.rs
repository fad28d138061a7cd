//! The appearance of failures, as data. The first row whose conditions all hold wins.
//!
//! Words are in lower case, as texts are compared. A row names its origin: a recorded run
//! (`exec/…`, `app_server/…`), the texts in the program itself (`program`), the meaning of an HTTP
//! status or a signal (`standard`), an answer of OpenAI's service (`service`), or the names that
//! applications of this package know (`package`).

use super::Kind::{self, *};

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The process ended; the text is its last stderr output.
    Ended,
    /// With this exit status.
    Exit(i32),
    /// By this signal, or by any.
    Signal(Option<i32>),
    /// After the program announced a thread.
    Started,
    /// Without any text.
    Silent,
    /// The name in `codexErrorInfo`.
    Info(&'static str),
    /// The code or type of the payload, or of a body in JSON.
    Code(&'static str),
    /// An HTTP status in this range.
    Status(u16, u16),
    /// The text begins with this; "error: " before it does not count.
    Begins(&'static str),
    /// The text has this in it.
    Has(&'static str),
}

/// Conditions and their meaning.
#[derive(Debug)]
pub struct Row {
    pub when: &'static [When],
    pub kind: Kind,
    pub retryable: bool,
    /// The origin, for people and for the tests.
    #[cfg_attr(not(test), allow(dead_code))]
    pub seen: &'static str,
    /// The version of the CLI that said it; empty if the row does not depend on one.
    #[cfg_attr(not(test), allow(dead_code))]
    pub cli: &'static str,
}

/// The version of the recordings.
const CLI: &str = "0.169.0";

/// A later attempt may succeed.
const AGAIN: bool = true;
/// A later attempt gives the same failure.
const NEVER: bool = false;

const fn row(
    when: &'static [When],
    kind: Kind,
    retryable: bool,
    seen: &'static str,
    cli: &'static str,
) -> Row {
    Row { when, kind, retryable, seen, cli }
}

use When::{Begins, Code, Ended, Exit, Has, Info, Signal, Silent, Started, Status};

#[rustfmt::skip]
pub static ROWS: &[Row] = &[
    // The end of the process.
    row(&[Signal(Some(2))], Interrupted, NEVER, "standard", ""),
    // KILL, PIPE and TERM come from outside: the system ran out of memory, or an operator cleaned
    // up.
    row(&[Signal(Some(9))], Killed, AGAIN, "exec/signal_sigkill_during_command", CLI),
    row(&[Signal(Some(13))], Killed, AGAIN, "package", ""),
    row(&[Signal(Some(15))], Killed, AGAIN, "exec/signal_sigterm_during_command", CLI),
    row(&[Signal(None)], Killed, NEVER, "exec/signal_sighup_during_command", CLI),
    // On SIGINT the CLI exits like this; every other end with status 1 has words.
    row(&[Ended, Exit(1), Started, Silent],
        Interrupted, NEVER, "exec/signal_sigint_during_command", CLI),

    // Messages on stderr of a CLI that did not run a turn.
    row(&[Ended, Exit(2), Has("try '--help'")], CliUnsupported, NEVER, "exec/bad_flag", CLI),
    row(&[Ended, Has("no rollout found for")],
        ThreadNotFound, NEVER, "exec/resume_unknown_id", CLI),
    row(&[Ended, Has("already has an active writer")],
        ThreadBusy, AGAIN, "exec/concurrent_resume", CLI),
    row(&[Ended, Has("required mcp servers failed to initialize")],
        Mcp, NEVER, "exec/mcp_server_required_fails", CLI),
    row(&[Ended, Begins("not inside a trusted directory")],
        NotAGitRepo, NEVER, "exec/no_git_repo", CLI),
    row(&[Ended, Has("input exceeds the maximum length of")], InputTooLarge, NEVER, "service", CLI),
    row(&[Ended, Has("login is required, but ")], LoginForbidden, NEVER, "program", CLI),
    row(&[Ended, Has("login is restricted to workspace")], LoginForbidden, NEVER, "program", CLI),
    row(&[Ended, Begins("error loading config")], Config, NEVER, "exec/toml_syntax_error", CLI),
    row(&[Ended, Begins("error parsing -c overrides")], Config, NEVER, "exec/bad_c_noequals", CLI),
    row(&[Ended, Begins("error finding codex home")], Config, NEVER, "program", CLI),
    row(&[Ended, Begins("model provider "), Has(" not found")],
        Config, NEVER, "exec/unknown_provider", CLI),
    row(&[Ended, Begins("unknown feature flag")],
        Config, NEVER, "exec/unknown_feature_enable", CLI),
    row(&[Ended, Has("is no longer supported; ")], Config, NEVER, "exec/legacy_profile_key", CLI),
    row(&[Ended, Has("is marked as untrusted")], Config, NEVER, "exec/project_untrustedtrust", CLI),
    row(&[Ended, Begins("failed to open last message file")],
        Config, NEVER, "exec/output_last_baddir", CLI),
    row(&[Ended, Begins("failed to read output schema file")],
        Config, NEVER, "exec/output_schema_missing", CLI),
    row(&[Ended, Begins("output schema file ")], Config, NEVER, "exec/output_schema_badjson", CLI),
    row(&[Ended, Begins("no such file or directory")], Config, NEVER, "exec/bad_cd", CLI),
    row(&[Ended, Begins("no prompt provided")],
        InvalidRequest, NEVER, "exec/stdin_empty_noarg", CLI),
    row(&[Ended, Begins("failed to read prompt from stdin")],
        InvalidRequest, NEVER, "exec/stdin_nonutf8", CLI),
    row(&[Ended, Begins("specify --uncommitted")],
        InvalidRequest, NEVER, "exec/review_noargs", CLI),
    row(&[Ended, Exit(0)], Protocol, NEVER, "package", ""),
    // EX_UNAVAILABLE and EX_TEMPFAIL, and the exit codes of a shell for KILL, PIPE and TERM.
    row(&[Ended, Exit(69)], Crashed, AGAIN, "package", ""),
    row(&[Ended, Exit(75)], Crashed, AGAIN, "package", ""),
    row(&[Ended, Exit(137)], Crashed, AGAIN, "package", ""),
    row(&[Ended, Exit(141)], Crashed, AGAIN, "package", ""),
    row(&[Ended, Exit(143)], Crashed, AGAIN, "package", ""),

    // Names of the app-server's codexErrorInfo. Some names have two meanings; the words decide.
    row(&[Info("usageLimitExceeded"), Begins("quota exceeded")],
        Quota, NEVER, "app_server/errors_all", CLI),
    row(&[Info("usageLimitExceeded")], UsageLimit, NEVER, "app_server/errors_all", CLI),
    row(&[Info("sessionBudgetExceeded")], UsageLimit, NEVER, "program", CLI),
    row(&[Info("rateLimitExceeded")], RateLimit, AGAIN, "app_server/errors_all", CLI),
    row(&[Info("contextWindowExceeded")], ContextWindow, NEVER, "app_server/errors_all", CLI),
    row(&[Info("serverOverloaded")], Overloaded, AGAIN, "app_server/errors_all", CLI),
    row(&[Info("flexUnavailable")], Overloaded, AGAIN, "program", CLI),
    row(&[Info("policyCapacityUnavailable")], Overloaded, AGAIN, "program", CLI),
    row(&[Info("internalServerError")], ServerError, AGAIN, "app_server/errors_all", CLI),
    row(&[Info("modelNotFound")], ModelNotFound, NEVER, "app_server/errors_all", CLI),
    row(&[Info("unauthorized")], Unauthorized, NEVER, "program", CLI),
    row(&[Info("cyberPolicy")], ContentPolicy, NEVER, "app_server/errors_all", CLI),
    row(&[Info("bioPolicy")], ContentPolicy, NEVER, "program", ""),
    row(&[Info("misalignmentPolicyViolation")], ContentPolicy, NEVER, "program", CLI),
    row(&[Info("inferenceHookDenied")], Forbidden, NEVER, "program", CLI),
    row(&[Info("tooManyDenials")], ApprovalDenied, NEVER, "program", CLI),
    row(&[Info("sandboxError")], Sandbox, NEVER, "program", CLI),
    row(&[Info("activeTurnNotSteerable")], ThreadBusy, AGAIN, "program", CLI),
    row(&[Info("threadRollbackFailed")], InvalidRequest, NEVER, "program", CLI),

    // Codes and types of payloads, and of the bodies that the CLI passes on.
    row(&[Code("rate_limit")], RateLimit, AGAIN, "package", ""),
    row(&[Code("rate_limit_exceeded")], RateLimit, AGAIN, "exec/failed_rate_limit", ""),
    row(&[Code("rate_limit_error")], RateLimit, AGAIN, "package", ""),
    row(&[Code("azure_rate_limit")], RateLimit, AGAIN, "package", ""),
    row(&[Code("sandbox_assessment_failed")], SandboxAssessmentFailed, NEVER, "package", ""),
    row(&[Code("sandbox_assessment")], SandboxAssessmentFailed, NEVER, "package", ""),
    row(&[Code("insufficient_quota")], Quota, NEVER, "exec/failed_quota", ""),
    row(&[Code("billing_hard_limit_reached")], Quota, NEVER, "service", ""),
    row(&[Code("usage_limit_reached")], UsageLimit, NEVER, "exec/http_429_usage_limit", ""),
    row(&[Code("usage_not_included")], UsageLimit, NEVER, "program", CLI),
    row(&[Code("context_length_exceeded")], ContextWindow, NEVER, "exec/failed_context_length", ""),
    row(&[Code("model_not_found")], ModelNotFound, NEVER, "exec/http_404", ""),
    row(&[Code("invalid_api_key")], Unauthorized, NEVER, "service", ""),
    row(&[Code("server_is_overloaded")], Overloaded, AGAIN, "exec/failed_overloaded", ""),
    row(&[Code("slow_down")], Overloaded, AGAIN, "service", ""),
    row(&[Code("server_error")], ServerError, AGAIN, "exec/failed_server_error", ""),
    row(&[Code("cyber_policy")], ContentPolicy, NEVER, "exec/failed_cyber", ""),
    row(&[Code("bio_policy")], ContentPolicy, NEVER, "service", ""),
    row(&[Code("content_policy_violation")], ContentPolicy, NEVER, "program", CLI),
    row(&[Code("string_above_max_length")], InputTooLarge, NEVER, "service", ""),
    row(&[Code("input_too_large")], InputTooLarge, NEVER, "program", CLI),
    // JSON-RPC of the app-server, and its changes of configuration.
    row(&[Code("-32001")], Overloaded, AGAIN, "program", CLI),
    row(&[Code("configVersionConflict")], Config, NEVER, "app_server/config_write", CLI),
    row(&[Code("configValidationError")], Config, NEVER, "app_server/config_write", CLI),
    row(&[Code("configLayerReadonly")], Config, NEVER, "app_server/config_write", CLI),

    // The HTTP status, if the words say no more.
    row(&[Status(401, 401), Has("missing bearer or basic authentication")],
        AuthMissing, NEVER, "exec/missing_auth_openai", ""),
    row(&[Status(401, 401)], Unauthorized, NEVER, "exec/http_401", ""),
    row(&[Status(403, 403)], Forbidden, NEVER, "exec/http_403", ""),
    row(&[Status(404, 404), Has("model")], ModelNotFound, NEVER, "exec/http_404", ""),
    row(&[Status(408, 408)], Timeout, AGAIN, "standard", ""),
    row(&[Status(413, 413)], InputTooLarge, NEVER, "standard", ""),
    row(&[Status(429, 429), Has("usage limit")],
        UsageLimit, NEVER, "exec/http_429_usage_limit", ""),
    row(&[Status(429, 429), Has("quota")], Quota, NEVER, "exec/http_429_quota", ""),
    row(&[Status(429, 429)], RateLimit, AGAIN, "exec/http_429", ""),
    row(&[Status(503, 503), Has("overloaded")], Overloaded, AGAIN, "service", ""),
    row(&[Status(529, 529)], Overloaded, AGAIN, "service", ""),
    row(&[Status(500, 599)], ServerError, AGAIN, "exec/http_500", ""),

    // The words of a turn that failed.
    row(&[Begins("codex ran out of room in the model's context window")],
        ContextWindow, NEVER, "exec/failed_context_length", CLI),
    row(&[Has("maximum context length")], ContextWindow, NEVER, "service", ""),
    row(&[Begins("you've hit your usage limit")],
        UsageLimit, NEVER, "exec/http_429_usage_limit", CLI),
    row(&[Begins("your workspace is out of credits")], UsageLimit, NEVER, "program", CLI),
    row(&[Begins("you're out of credits")], UsageLimit, NEVER, "program", CLI),
    row(&[Begins("you hit your spend cap")], UsageLimit, NEVER, "program", CLI),
    row(&[Begins("to use codex with your chatgpt plan")], UsageLimit, NEVER, "program", CLI),
    row(&[Begins("quota exceeded")], Quota, NEVER, "exec/failed_quota", CLI),
    row(&[Has("exceeded your current quota")], Quota, NEVER, "service", ""),
    row(&[Begins("selected model is at capacity")],
        Overloaded, AGAIN, "exec/failed_overloaded", CLI),
    row(&[Begins("policy-restricted capacity is unavailable")], Overloaded, AGAIN, "program", CLI),
    row(&[Begins("flex capacity unavailable")], Overloaded, AGAIN, "program", CLI),
    row(&[Begins("server overloaded")], Overloaded, AGAIN, "program", CLI),
    row(&[Begins("we're currently experiencing high demand")],
        ServerError, AGAIN, "exec/http_500", CLI),
    row(&[Begins("internal error; agent loop died")], ServerError, AGAIN, "program", CLI),
    row(&[Begins("incomplete response returned"), Has("content_filter")],
        ContentPolicy, NEVER, "program", CLI),
    row(&[Begins("incomplete response returned")],
        Incomplete, NEVER, "exec/incomplete_max_tokens", CLI),
    row(&[Begins("stream disconnected before completion: incomplete response returned"),
          Has("content_filter")],
        ContentPolicy, NEVER, "program", CLI),
    row(&[Begins("stream disconnected before completion: incomplete response returned")],
        Incomplete, NEVER, "program", CLI),
    row(&[Begins("stream disconnected before completion"), Has("idle timeout")],
        Timeout, AGAIN, "exec/idle_timeout", CLI),
    row(&[Begins("stream disconnected before completion"), Has("rate limit")],
        RateLimit, AGAIN, "service", ""),
    row(&[Begins("stream disconnected before completion"),
          Has("an error occurred while processing your request")],
        ServerError, AGAIN, "exec/failed_server_error", CLI),
    row(&[Begins("stream disconnected before completion")],
        StreamDisconnected, AGAIN, "exec/stream_cut", CLI),
    row(&[Begins("error while reading the server response")],
        StreamDisconnected, AGAIN, "program", CLI),
    row(&[Begins("reconnecting... waiting for network")],
        ConnectionRefused, AGAIN, "exec/server_down", CLI),
    row(&[Begins("connection failed")], ConnectionRefused, AGAIN, "exec/server_down", CLI),
    row(&[Begins("reconnecting...")],
        StreamDisconnected, AGAIN, "app_server/error_retry_then_ok", CLI),
    row(&[Begins("request timed out")], Timeout, AGAIN, "program", CLI),
    row(&[Begins("missing environment variable")],
        AuthMissing, NEVER, "exec/auth_provider_env_key_missing", CLI),
    row(&[Has("could not be refreshed"), Has("sign in again")],
        Unauthorized, NEVER, "program", CLI),
    row(&[Begins("access blocked by cloudflare")], Forbidden, NEVER, "program", CLI),
    row(&[Has("workspace inference hook blocked")], Forbidden, NEVER, "program", CLI),
    row(&[Has("flagged for possible ")], ContentPolicy, NEVER, "program", CLI),
    row(&[Has("misalignment policy violation")], ContentPolicy, NEVER, "program", CLI),
    row(&[Begins("invalid prompt"), Has("flagged")],
        ContentPolicy, NEVER, "exec/failed_invalid_prompt", ""),
    row(&[Begins("invalid prompt"), Has("limited access to this content")],
        ContentPolicy, NEVER, "program", CLI),
    row(&[Begins("invalid prompt")], InvalidRequest, NEVER, "program", CLI),
    row(&[Begins("image poisoning")], InvalidRequest, NEVER, "program", CLI),
    row(&[Has("model"), Has("does not exist")], ModelNotFound, NEVER, "exec/http_404", ""),
    row(&[Has("model is not supported when using codex")], ModelNotFound, NEVER, "service", ""),
    row(&[Begins("sandbox error")], Sandbox, NEVER, "program", CLI),
    row(&[Begins("sandbox denied exec error")], Sandbox, NEVER, "program", CLI),
    row(&[Begins("codex-linux-sandbox was required")], Sandbox, NEVER, "program", CLI),
    row(&[Has("sandbox assessment")], SandboxAssessmentFailed, NEVER, "package", ""),
    row(&[Begins("tool call error")], Mcp, NEVER, "exec/mcp_boom", CLI),
    row(&[Has("requires approval, but approval policy is never")],
        ApprovalDenied, NEVER, "exec/mcp_boom", CLI),
    row(&[Begins("turn aborted")], Interrupted, NEVER, "program", CLI),
    row(&[Begins("interrupted (ctrl-c)")], Interrupted, NEVER, "program", CLI),

    // The words of a request that the app-server refused.
    row(&[Has("no rollout found for")], ThreadNotFound, NEVER, "app_server/thread_lifecycle", CLI),
    row(&[Begins("thread not found")],
        ThreadNotFound, NEVER, "app_server/thread_resume_other_process", CLI),
    row(&[Begins("thread not loaded")], ThreadNotFound, NEVER, "app_server/thread_lifecycle", CLI),
    row(&[Begins("no thread with id")], ThreadNotFound, NEVER, "program", CLI),
    row(&[Has("is archived. run `codex unarchive ")],
        ThreadNotFound, NEVER, "app_server/thread_lifecycle", CLI),
    row(&[Has("already has an active writer")], ThreadBusy, AGAIN, "exec/concurrent_resume", CLI),
    row(&[Has("activeturnnotsteerable")], ThreadBusy, AGAIN, "app_server/review", CLI),
    row(&[Has("login is disabled")],
        LoginForbidden, NEVER, "app_server/account_forced_chatgpt", CLI),
    row(&[Has("auth is disabled")], LoginForbidden, NEVER, "app_server/account_forced_api", CLI),
    row(&[Begins("failed to set external auth")],
        Unauthorized, NEVER, "app_server/account_forced_chatgpt", CLI),
    row(&[Has("authentication required to read")],
        AuthMissing, NEVER, "app_server/account_login_apikey", CLI),
    row(&[Begins("not logged in")], AuthMissing, NEVER, "program", CLI),
    // The server no longer asks its client for the time.
    row(&[Has("no external current-time provider is available")],
        CliUnsupported, NEVER, "program", ""),
    row(&[Has("requires experimentalapi capability")],
        Unsupported, NEVER, "app_server/protocol_errors", CLI),
    row(&[Has("is not supported yet")], Unsupported, NEVER, "app_server/thread_lifecycle", CLI),
    row(&[Begins("invalid request: unknown variant"), Has("expected one of `initialize`")],
        Unsupported, NEVER, "app_server/protocol_errors", CLI),
    row(&[Begins("unsupported operation")], Unsupported, NEVER, "program", CLI),
    row(&[Begins("not initialized")], Protocol, NEVER, "app_server/protocol_errors", CLI),
    row(&[Begins("already initialized")], Protocol, NEVER, "app_server/protocol_errors", CLI),
    row(&[Has("input exceeds the maximum length of")], InputTooLarge, NEVER, "program", CLI),
    row(&[Begins("failed to load configuration")],
        Config, NEVER, "app_server/config_write_overridden", CLI),
    row(&[Begins("failed to read configuration layers")],
        Config, NEVER, "app_server/config_write_overridden", CLI),

    // The remaining names. A status counts more than the name: the server was reached.
    row(&[Status(400, 499)], InvalidRequest, NEVER, "exec/http_400", ""),
    row(&[Info("httpConnectionFailed")], ConnectionRefused, AGAIN, "program", CLI),
    row(&[Info("responseStreamConnectionFailed")], StreamDisconnected, AGAIN, "program", CLI),
    row(&[Info("responseStreamDisconnected")],
        StreamDisconnected, AGAIN, "app_server/error_retry_then_ok", CLI),
    row(&[Info("responseTooManyFailedAttempts")], StreamDisconnected, AGAIN, "program", CLI),
    row(&[Info("badRequest")], InvalidRequest, NEVER, "program", CLI),
    row(&[Has("rate limit")], RateLimit, AGAIN, "package", ""),
    row(&[Has("too many requests")], RateLimit, AGAIN, "standard", ""),
    row(&[Code("invalid_request_error")], InvalidRequest, NEVER, "exec/http_400", ""),
    row(&[Code("-32600")], InvalidRequest, NEVER, "app_server/protocol_errors", CLI),
    row(&[Code("-32601")], Unsupported, NEVER, "app_server/thread_lifecycle", CLI),
    row(&[Code("-32602")], InvalidRequest, NEVER, "program", CLI),
    // Words of the CLI itself that no row above has.
    row(&[Info("other"), Begins("fatal error: ")], Unknown, NEVER, "program", CLI),
    row(&[Info("other"), Has("(os error ")], Unknown, NEVER, "standard", ""),
    // Every other failure of a turn has a beginning of its own; the body of a 400 is passed on as
    // it came.
    row(&[Info("other")], InvalidRequest, NEVER, "exec/http_400", CLI),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(when: &When) -> Option<&'static str> {
        match *when {
            Begins(words) | Has(words) => Some(words),
            _ => None,
        }
    }

    #[test]
    fn rows_are_as_the_search_needs_them() {
        for row in ROWS {
            assert!(!row.when.is_empty(), "{row:?} would always hold");
            for words in row.when.iter().filter_map(words) {
                assert_eq!(words, words.to_ascii_lowercase(), "texts are compared in lower case");
                assert!(words.len() >= 5, "{words} is in too many texts");
            }
            let known = ["exec/", "app_server/"].iter().any(|dir| row.seen.starts_with(dir));
            assert!(
                known || ["program", "standard", "service", "package"].contains(&row.seen),
                "{row:?}"
            );
            assert!(["", CLI].contains(&row.cli), "{row:?}");
        }
    }

    #[test]
    fn no_row_hides_behind_an_earlier_one() {
        for (n, row) in ROWS.iter().enumerate() {
            let hidden = ROWS[..n]
                .iter()
                .find(|earlier| earlier.when.iter().all(|when| row.when.contains(when)));
            assert!(hidden.is_none(), "{row:?} is never reached: {hidden:?}");
        }
    }
}
