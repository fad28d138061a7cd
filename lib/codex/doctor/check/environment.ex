defmodule Codex.Doctor.Check.Environment do
  @moduledoc false
  # Which variables are set that change what the CLI does: their names.

  alias Codex.Doctor.{Check, Place}

  # Those that CLI 0.169 looks at, and this package. Proxies in lower case as well.
  @known [
    {"CODEX_PATH", :ok, "the program"},
    {"CODEX_BINARY", :ok, "the program, if CODEX_PATH does not name it"},
    {"CODEX_HOME", :ok, "the home"},
    {"CODEX_SQLITE_HOME", :ok, "where the CLI keeps its databases"},
    {"CODEX_API_KEY", :ok, "pays for `codex exec`"},
    {"CODEX_ACCESS_TOKEN", :ok, "pays instead of the login"},
    {"OPENAI_API_KEY", :ok, "the CLI does not look at it, unless a provider does (env_key)"},
    {"CODEX_CA_CERTIFICATE", :ok, "which certificates are trusted"},
    {"SSL_CERT_FILE", :ok, "which certificates are trusted"},
    {"HTTP_PROXY", :ok, "requests go through it"},
    {"HTTPS_PROXY", :ok, "requests go through it"},
    {"ALL_PROXY", :ok, "requests go through it"},
    {"NO_PROXY", :ok, "which requests go through none"},
    {"CODEX_REFRESH_TOKEN_URL_OVERRIDE", :ok, "where tokens are renewed"},
    {"CODEX_REVOKE_TOKEN_URL_OVERRIDE", :ok, "where tokens are given up"},
    {"CODEX_INTERNAL_ORIGINATOR_OVERRIDE", :ok, "what requests say that they come from"},
    {"RUST_LOG", :ok, "what the CLI writes on stderr"},
    {"CODEX_SANDBOX", :warning, "this runs in Codex's own sandbox"},
    {"CODEX_SANDBOX_NETWORK_DISABLED", :warning,
     "this runs in Codex's own sandbox, without network"}
  ]
  @proxies ~w(http_proxy https_proxy all_proxy no_proxy)

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(place) do
    details = place |> Place.env() |> set()
    {Check.new(:environment, Check.worst(details), summary(details), details), place}
  end

  defp set(env) do
    names = for {name, value} <- Enum.sort(env), value != "", do: name
    known = for name <- names, about = about(name), do: detail(name, about)

    others =
      for "CODEX_" <> _ = name <- names,
          about(name) == nil,
          do: detail(name, {:ok, "not known here"})

    known ++ others
  end

  defp about(name) do
    name = if name in @proxies, do: String.upcase(name), else: name
    with {_name, status, words} <- List.keyfind(@known, name, 0), do: {status, words}
  end

  defp detail(name, {:ok, words}), do: %{text: "#{name}: #{words}", name: name}

  defp detail(name, {status, words}),
    do: %{status: status, text: "#{name}: #{words}", name: name}

  defp summary([]), do: "no variable that changes anything is set"
  defp summary([_]), do: "1 variable that changes something is set"
  defp summary(details), do: "#{length(details)} variables that change something are set"
end
