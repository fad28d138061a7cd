defmodule Codex.Sessions.Session do
  @moduledoc """
  A recorded thread.

    * `id` - the id of the thread; `Codex.resume_thread/3` takes it
    * `files` - its rollout files, paths from the home on, the oldest first. A thread that was
      reverted has several
    * `archived` - whether it is archived
    * `name` - the name that was given to it, or nil
    * `title` - the first prompt, or nil
    * `cwd`, `git` - the working directory and facts about its repository: a map with
      `"branch"`, `"commit_hash"` and `"repository_url"`
    * `models` - the models of its turns, in the order of their first use
    * `model_provider`, `originator`, `source`, `cli_version` - as the CLI recorded them. The
      `source` is a string (`"exec"`, `"cli"`, `"vscode"`), or a map for the thread of an agent
    * `started`, `ended` - the time of its start and of its last line, as text (ISO 8601, UTC)
    * `parent` - the id of the thread that it came from, or nil
    * `parent_kind` - `:fork`, `:subagent`, `:review`, or nil. A review can have a kind and no
      parent: older versions of the CLI do not record the parent
    * `parent_missing` - whether the home has no file of the parent
    * `generation` - the generation of its lines, 1 to 4, or nil if no line was read
    * `history_base` - the rollout that holds the history before its first line, as a map with
      `"thread_id"`, `"end_ordinal_exclusive"` and `"end_byte_offset"`, or nil
    * `images` - images in prompts
    * `compactions` - how often its history was shortened
    * `lines`, `bad_lines`, `salvaged_lines` - lines that are not blank, lines that are not whole,
      and bad lines whose end was a whole line, which counts
    * `rate_limits` - the last known limits of the account, as the CLI recorded them, or nil
    * `usage` - tokens of its own model calls by the names of the CLI (`"input_tokens"`,
      `"cached_input_tokens"`, `"cache_write_input_tokens"`, `"output_tokens"`,
      `"reasoning_output_tokens"`), or nil if none were recorded. Calls of reverted turns count,
      those of its parent and its agents do not. Cached tokens are part of the input, reasoning is
      part of the output

  Other fields than `id`, `files` and `archived` are nil, 0 or empty if the file cannot be read.
  """

  @enforce_keys [:id]
  defstruct [
    :id,
    :name,
    :title,
    :cwd,
    :model_provider,
    :originator,
    :source,
    :cli_version,
    :git,
    :started,
    :ended,
    :parent,
    :parent_kind,
    :generation,
    :history_base,
    :rate_limits,
    :usage,
    archived: false,
    files: [],
    models: [],
    parent_missing: false,
    images: 0,
    compactions: 0,
    lines: 0,
    bad_lines: 0,
    salvaged_lines: 0
  ]

  @typedoc "Numbers of tokens, with the names of the CLI."
  @type usage :: %{String.t() => non_neg_integer()}
  @typedoc "A recorded thread. Fields: see above."
  @type t :: %__MODULE__{
          id: String.t(),
          files: [Path.t()],
          archived: boolean(),
          name: String.t() | nil,
          title: String.t() | nil,
          cwd: String.t() | nil,
          models: [String.t()],
          model_provider: String.t() | nil,
          originator: String.t() | nil,
          source: String.t() | map() | nil,
          cli_version: String.t() | nil,
          git: map() | nil,
          started: String.t() | nil,
          ended: String.t() | nil,
          parent: String.t() | nil,
          parent_kind: :fork | :subagent | :review | nil,
          parent_missing: boolean(),
          generation: 1..4 | nil,
          history_base: map() | nil,
          images: non_neg_integer(),
          compactions: non_neg_integer(),
          lines: non_neg_integer(),
          bad_lines: non_neg_integer(),
          salvaged_lines: non_neg_integer(),
          rate_limits: map() | nil,
          usage: usage() | nil
        }

  defimpl Inspect do
    def inspect(session, opts), do: Codex.ShortInspect.data(session, opts)
  end
end
