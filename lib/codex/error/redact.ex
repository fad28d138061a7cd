defmodule Codex.Error.Redact do
  @moduledoc false
  # Keys that a provider echoes in the text of an error are taken out of it, where we know them.

  @mark "[redacted]"

  # Names of variables that hold secrets. What the SDK puts into the environment for headers and tokens begins with its
  # own prefix.
  @secret_name ~r/KEY|TOKEN|SECRET|PASSWORD|^CODEX_SDK_/i

  # Shorter ones would take ordinary words out of the text.
  @shortest 6

  @doc "The secrets in an environment, longest first. Of `Bearer abc`, `abc` is one, too."
  @spec secrets(Enumerable.t()) :: [String.t()]
  def secrets(env) do
    for {name, value} <- env,
        is_binary(value),
        name =~ @secret_name,
        secret <- [value, value |> String.split() |> List.last()],
        is_binary(secret) and byte_size(secret) >= @shortest,
        uniq: true do
      secret
    end
    |> Enum.sort_by(&(-byte_size(&1)))
  end

  @doc """
  The same for an environment and those of MCP servers, which are secrets as a whole, but for what
  this VM has, too: `PATH` is no secret.
  """
  @spec secrets(Enumerable.t(), Codex.Exec.Servers.envs()) :: [String.t()]
  def secrets(env, servers) do
    own =
      for {_id, vars} <- servers,
          {name, text} <- vars,
          text != System.get_env(name),
          do: {"TOKEN", text}

    secrets(Enum.concat(env, own))
  end

  @doc "The term without the secrets, in all its texts."
  @spec redact(term(), [String.t()]) :: term()
  def redact(term, []), do: term
  def redact(text, secrets) when is_binary(text), do: String.replace(text, secrets, @mark)
  def redact(list, secrets) when is_list(list), do: Enum.map(list, &redact(&1, secrets))

  def redact(%_{} = struct, secrets),
    do: struct |> Map.from_struct() |> redact(secrets) |> then(&Map.merge(struct, &1))

  def redact(%{} = map, secrets),
    do: Map.new(map, fn {key, value} -> {redact(key, secrets), redact(value, secrets)} end)

  def redact(other, _secrets), do: other
end
