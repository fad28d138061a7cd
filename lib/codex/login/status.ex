defmodule Codex.Login.Status do
  @moduledoc """
  The result of `codex login status`.

    * `logged_in?` - whether there is a login. The CLI does not check it before a request
    * `method` - `:api_key`, `:chatgpt`, `:bedrock`, `:other` (unknown words), or nil
    * `key_hint` - the masked key that the CLI shows, or nil
    * `error` - the reason why the CLI could not read the login, or nil
    * `message` - the whole output
    * `exit_status` - 0 if there is a login
  """

  @enforce_keys [:logged_in?, :message, :exit_status]
  defstruct [:logged_in?, :method, :key_hint, :error, :message, :exit_status]

  @typedoc "The stored login, as the CLI reports it."
  @type t :: %__MODULE__{
          logged_in?: boolean(),
          method: :api_key | :chatgpt | :bedrock | :other | nil,
          key_hint: String.t() | nil,
          error: String.t() | nil,
          message: String.t(),
          exit_status: non_neg_integer()
        }

  @doc """
  Parses the output and the exit status.

      iex> text = "API key configured - sk-test-***a1234\\nAuthentication is checked later."
      iex> status = Codex.Login.Status.parse(text, 0)
      iex> {status.logged_in?, status.method, status.key_hint}
      {true, :api_key, "sk-test-***a1234"}
      iex> Codex.Login.Status.parse("Logged in using an API key - sk-***1234", 0).key_hint
      "sk-***1234"
      iex> Codex.Login.Status.parse("Not logged in", 1).logged_in?
      false
      iex> Codex.Login.Status.parse("Error checking login status: no bus", 1).error
      "no bus"
  """
  @spec parse(String.t(), non_neg_integer()) :: t()
  def parse(message, exit_status) when is_binary(message) and is_integer(exit_status) do
    status = %__MODULE__{
      logged_in?: exit_status == 0,
      message: message,
      exit_status: exit_status
    }

    struct!(status, parsed(message, exit_status))
  end

  defp parsed(message, 0) do
    cond do
      # The words of the current CLI, and of those up to 0.160 or later.
      match = Regex.run(~r/^(?:API key configured|Logged in using an API key) - (\S+)/m, message) ->
        [method: :api_key, key_hint: Enum.at(match, 1)]

      message =~ ~r/^Logged in using ChatGPT/m ->
        [method: :chatgpt]

      message =~ ~r/^Logged in using Amazon Bedrock/m ->
        [method: :bedrock]

      true ->
        [method: :other]
    end
  end

  defp parsed(message, _status) do
    case Regex.run(~r/^Error checking login status: (.*)/ms, message) do
      [_, why] -> [error: why]
      nil -> if message =~ ~r/^Not logged in/m, do: [], else: [error: message]
    end
  end
end
