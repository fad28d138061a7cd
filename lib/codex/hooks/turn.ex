defmodule Codex.Hooks.Turn do
  @moduledoc false
  # The hooks of a turn, from its merged options.

  alias Codex.Hooks.{Approval, Budget, Masking, Set, Until}

  @doc "Returns the hooks, or nil. On `codex exec`, policies of approvals are some."
  @spec hooks(map(), :exec | :app_server, map()) :: Set.t() | nil
  def hooks(settings, transport, context) do
    parts = [
      for({name, function} <- settings.hooks, do: {name, function, 0}),
      Approval.hooks(settings, transport),
      Masking.hooks(settings),
      Until.hooks(settings),
      Budget.hooks(settings)
    ]

    case Enum.concat(parts) do
      [] -> nil
      all -> Set.new(all, settings.hook_timeout_ms, context)
    end
  end
end
