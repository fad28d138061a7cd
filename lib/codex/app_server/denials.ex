defmodule Codex.AppServer.Denials do
  @moduledoc false
  # What a request of the server gets when nobody answers it: the no of its kind, so that the turn goes on without what was
  # asked for. CLI 0.169: `decline` and `denied` leave the turn running, `cancel` and `abort` would end it.

  @text "nobody answered"

  @results %{
    "item/commandExecution/requestApproval" => %{"decision" => "decline"},
    "item/fileChange/requestApproval" => %{"decision" => "decline"},
    # No permission is what is granted.
    "item/permissions/requestApproval" => %{"permissions" => %{}, "scope" => "turn"},
    "mcpServer/elicitation/request" => %{"action" => "decline"},
    "item/tool/requestUserInput" => %{"answers" => %{}},
    "item/tool/call" => %{
      "contentItems" => [%{"type" => "inputText", "text" => @text}],
      "success" => false
    },
    "execCommandApproval" => %{"decision" => %{"denied" => %{"rejection" => @text}}},
    "applyPatchApproval" => %{"decision" => %{"denied" => %{"rejection" => @text}}}
  }

  # The rest has no word for no: tokens, attestations, the time, and what is not known.
  @error %{"code" => -32601, "message" => @text}

  @doc """
  The answer.

      iex> Codex.AppServer.Denials.answer("item/fileChange/requestApproval")
      {:ok, %{"decision" => "decline"}}
      iex> Codex.AppServer.Denials.answer("currentTime/read")
      {:error, %{"code" => -32601, "message" => "nobody answered"}}
  """
  @spec answer(String.t()) :: {:ok, map()} | {:error, map()}
  def answer(method) do
    case @results do
      %{^method => result} -> {:ok, result}
      _ -> {:error, @error}
    end
  end
end
