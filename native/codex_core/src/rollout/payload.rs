//! The payloads that carry facts, with only the members that are used.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::tokens::Tokens;

/// The first line of a rollout.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The id of the thread.
    pub id: Option<String>,
    /// The start of the thread.
    pub timestamp: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The program that drove the CLI.
    pub originator: Option<String>,
    /// The version of the CLI.
    pub cli_version: Option<String>,
    /// The kind of thread: a word, or an object for the thread of an agent.
    pub source: Option<Json>,
    /// The name of the model's provider.
    pub model_provider: Option<String>,
    /// Facts about the repository.
    pub git: Option<Json>,
    /// `"paginated"` for lines with ordinals; `"legacy"` or nothing before.
    pub history_mode: Option<String>,
    /// The thread that this one was forked from.
    pub forked_from_id: Option<String>,
    /// The thread whose agent this one is.
    pub parent_thread_id: Option<String>,
    /// The end of the history that stands in another rollout.
    pub history_base: Option<HistoryBase>,
}

/// A member that is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(pub Box<str>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|value| Json(value.into()))
    }
}

/// The history before the first line of a rollout: another rollout, up to a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HistoryBase {
    /// The id of the other rollout: the last one of its name.
    pub thread_id: String,
    /// The ordinal of the first line that does not belong to the history.
    pub end_ordinal_exclusive: u64,
    /// The position of that line in the plain file.
    pub end_byte_offset: u64,
}

/// The envelope of a payload.
#[derive(Deserialize)]
pub(super) struct Payload<T> {
    pub payload: T,
}

#[derive(Deserialize)]
pub(super) struct TurnId {
    #[serde(default)]
    pub turn_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct TurnContext<'a> {
    #[serde(default)]
    pub turn_id: Option<String>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub cwd: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct UserMessage<'a> {
    #[serde(borrow, default)]
    pub message: Cow<'a, str>,
    #[serde(default)]
    pub images: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    pub local_images: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
pub(super) struct AgentMessage<'a> {
    #[serde(borrow, default)]
    pub message: Cow<'a, str>,
    #[serde(borrow, default)]
    pub phase: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct TaskComplete<'a> {
    #[serde(default)]
    pub turn_id: Option<String>,
    #[serde(borrow, default)]
    pub last_agent_message: Option<Cow<'a, str>>,
    #[serde(default)]
    pub error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RolledBack {
    #[serde(default)]
    pub num_turns: u32,
}

#[derive(Deserialize)]
pub(super) struct ItemCompleted<'a> {
    #[serde(borrow, default)]
    pub thread_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub turn_id: Option<String>,
    #[serde(borrow)]
    pub item: Item<'a>,
}

#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub content: Option<Vec<Content<'a>>>,
    #[serde(borrow, default)]
    pub phase: Option<Cow<'a, str>>,
}

/// A message of the model's interface.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub content: Option<Vec<Content<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
}

impl Content<'_> {
    pub fn is_image(&self) -> bool {
        matches!(&*self.kind, "image" | "local_image" | "input_image")
    }
}

/// The texts of a message, one after the other.
pub(super) fn text_of(content: &[Content<'_>]) -> String {
    content.iter().filter_map(|part| part.text.as_deref()).collect()
}

#[derive(Deserialize)]
pub(super) struct TokenCount {
    #[serde(default)]
    pub info: Option<Info>,
    #[serde(default)]
    pub rate_limits: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub total_token_usage: Option<Tokens>,
    #[serde(default)]
    pub last_token_usage: Option<Tokens>,
}

#[derive(Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow, default)]
    pub thread_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub turn_id: Option<Cow<'a, str>>,
    pub usage: Tokens,
}
