//! The closed set of kinds.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The kind of a failure. `Codex.Error` documents each for users.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $word,)* }
            }
        }
    };
}

kinds! {
    /// Too many requests.
    RateLimit = "rate_limit",
    /// The allowance of the plan or the workspace is used up.
    UsageLimit = "usage_limit",
    /// The paid credit is used up.
    Quota = "quota",
    /// The key or the login is refused.
    Unauthorized = "unauthorized",
    /// The login is right, and may not do this.
    Forbidden = "forbidden",
    /// The login has no such model.
    ModelNotFound = "model_not_found",
    /// The model or the server has no room now.
    Overloaded = "overloaded",
    /// The server failed.
    ServerError = "server_error",
    /// The conversation is longer than the model takes.
    ContextWindow = "context_window",
    /// The request is one that never succeeds.
    InvalidRequest = "invalid_request",
    /// The prompt is longer than the CLI takes.
    InputTooLarge = "input_too_large",
    /// The answer was cut.
    Incomplete = "incomplete",
    /// A policy forbids the request or the answer.
    ContentPolicy = "content_policy",
    /// The answer broke off.
    StreamDisconnected = "stream_disconnected",
    /// The server cannot be reached.
    ConnectionRefused = "connection_refused",
    /// A clock ran out.
    Timeout = "timeout",
    /// The sandbox could not be set up, or refused.
    Sandbox = "sandbox",
    /// A command could not be assessed.
    SandboxAssessmentFailed = "sandbox_assessment_failed",
    /// Approval was denied.
    ApprovalDenied = "approval_denied",
    /// SIGINT, or a cancel.
    Interrupted = "interrupted",
    /// Another signal.
    Killed = "killed",
    /// An exit without a reason that is known.
    Crashed = "crashed",
    /// The thread does not exist.
    ThreadNotFound = "thread_not_found",
    /// Another client uses the thread.
    ThreadBusy = "thread_busy",
    /// The configuration does not allow the run.
    Config = "config",
    /// The key and the login are missing.
    AuthMissing = "auth_missing",
    /// The configuration forbids this way to log in.
    LoginForbidden = "login_forbidden",
    /// The CLI does not know the requested feature.
    CliUnsupported = "cli_unsupported",
    /// The folder is neither trusted nor a repository.
    NotAGitRepo = "not_a_git_repo",
    /// An MCP server failed.
    Mcp = "mcp",
    /// The CLI broke off, or spoke another language.
    Protocol = "protocol",
    /// The function does not exist.
    Unsupported = "unsupported",
    /// Nothing known.
    Unknown = "unknown",
}
