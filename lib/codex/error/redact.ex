defmodule Codex.Error.Redact do
  @moduledoc false
  # Removes known keys from texts of errors, because providers echo them.

  @mark "[redacted]"

  # Names of variables that hold secrets. The SDK's own variables for headers and tokens have a
  # prefix of the SDK.
  @secret_name ~r/KEY|TOKEN|SECRET|PASSWORD|^CODEX_SDK_/i

  # Shorter values would remove ordinary words from the text.
  @shortest 6

  @doc "Returns the secrets in an environment, longest first. `Bearer abc` also yields `abc`."
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
  Returns the secrets of an environment and of MCP servers. All variables of MCP servers count as
  secrets, except those that this VM has, too, such as `PATH`.
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

  # Keys of providers, bearer tokens, tokens of logins. In a string of JSON, `\n` may be before one.
  @shapes [
    ~r/(?:\b|(?<=\\[nrt]))sk-[\w-]{8,}/,
    ~r/(?:\b|(?<=\\[nrt]))Bearer\s+\K[\w.~+\/=-]{8,}/i,
    ~r/(?:\b|(?<=\\[nrt]))eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+/,
    ~r/(?:\b|(?<=\\[nrt]))(?:ghp|gho|ghs|github_pat|xox[abp]|at)[-_][\w-]{12,}/
  ]
  # A text with one of these shapes has one of these parts.
  @parts ~w(sk- earer EARER eyJ ghp- ghp_ gho- gho_ ghs- ghs_ github_pat xox at- at_)

  @doc "Returns the shapes of keys and tokens."
  @spec shapes() :: [Regex.t()]
  def shapes, do: @shapes

  @doc "Returns texts of which a text with the shape of a key or a token has one."
  @spec parts() :: [String.t()]
  def parts, do: @parts

  @doc """
  Removes texts that have the shape of a key or a token.

      iex> Codex.Error.Redact.shapes("key sk-proj-12345678, Bearer abcdefgh.ijk")
      "key [redacted], Bearer [redacted]"
  """
  @spec shapes(String.t()) :: String.t()
  def shapes(text),
    do: Enum.reduce(@shapes, text, fn shape, text -> Regex.replace(shape, text, @mark) end)

  @doc "Removes the secrets from all texts of a term."
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
