defmodule Codex.Approvals.Hook do
  @moduledoc """
  A module that decides: see `Codex.Approvals` for events and decisions.

  Only `c:review_tool/3` is required. It also decides commands, file changes and permissions for a
  hook that lacks their callback: match on `event.type`. `opts` has `:timeout`, the ms that are left.
  """

  @type decision ::
          Codex.Approvals.decision() | :later | {:async, term()} | {:async, term(), term()}

  @doc "Called first; the context that comes back is what the others get. Anything but `{:ok, context}` changes nothing."
  @callback prepare(event :: map(), context :: map()) :: {:ok, map()} | term()

  @doc "Whether a tool of the host, or of an MCP server, may run."
  @callback review_tool(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Whether a command may run."
  @callback review_command(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Whether files may be changed."
  @callback review_file(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "Whether the turn may get more permissions."
  @callback review_permissions(event :: map(), context :: map(), opts :: keyword()) :: decision()

  @doc "The decision of an `{:async, ref}`, within `timeout` ms."
  @callback await(ref :: term(), timeout :: timeout()) :: {:ok, decision()} | {:error, term()}

  @optional_callbacks prepare: 2,
                      review_command: 3,
                      review_file: 3,
                      review_permissions: 3,
                      await: 2

  @doc "What a hook without `prepare/2` does."
  @spec default_prepare(map(), map()) :: {:ok, map()}
  def default_prepare(_event, context), do: {:ok, context}

  @doc "What a hook without the callback for an event says."
  @spec default_review(map(), map(), keyword()) :: {:deny, String.t()}
  def default_review(_event, _context, _opts), do: {:deny, "nobody decides"}
end
