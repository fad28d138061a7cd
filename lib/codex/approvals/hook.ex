defmodule Codex.Approvals.Hook do
  @moduledoc """
  A behaviour for policies: see `Codex.Approvals` for events and decisions.

  Only `c:review_tool/3` is required. It also decides commands, file changes and permissions for a
  hook that lacks their callback: match on `event.type`. `opts` has `:timeout`, the ms that are
  left.
  """

  @typedoc "The decision of a callback. `:later` and `{:async, …}` postpone it; see `Codex.Approvals`."
  @type decision ::
          Codex.Approvals.decision() | :later | {:async, term()} | {:async, term(), term()}

  @doc """
  Called before the other callbacks, which get the returned context. Results other than
  `{:ok, context}` are ignored.
  """
  @callback prepare(event :: map(), context :: map()) :: {:ok, map()} | term()

  @doc "Decides whether a host tool or a tool of an MCP server may run."
  @callback review_tool(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Decides whether a command may run."
  @callback review_command(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Decides whether files may be changed."
  @callback review_file(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Decides whether the turn gets more permissions."
  @callback review_permissions(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Returns the decision of an `{:async, ref}` within `timeout` ms."
  @callback await(ref :: term(), timeout :: timeout()) :: {:ok, decision()} | {:error, term()}

  @optional_callbacks prepare: 2,
                      review_command: 3,
                      review_file: 3,
                      review_permissions: 3,
                      await: 2

  @doc "Stands in for `prepare/2` in hooks that do not define it."
  @spec default_prepare(map(), map()) :: {:ok, map()}
  def default_prepare(_event, context), do: {:ok, context}

  @doc "Denies an event in hooks that do not define its callback."
  @spec default_review(map(), map(), keyword()) :: {:deny, String.t()}
  def default_review(_event, _context, _opts), do: {:deny, "nobody decides"}
end
