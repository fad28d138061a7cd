defmodule Codex.RateLimit.AccountKey do
  @moduledoc false
  # Names the account that pays for a run: the provider, and a digest of the API key or, without a
  # key, of the home. The login and the configuration are not read, which keeps this cheap, so a
  # provider that only the configuration names is called `default`.

  @doc "Returns the key of the account of these settings (`Codex.Options.Merge`)."
  @spec of(map()) :: String.t()
  def of(settings) do
    {kind, payer} = payer(settings)
    provider = provider(settings)

    digest =
      :crypto.hash(:sha256, [provider, 0, settings.base_url || "", 0, payer])
      |> binary_part(0, 8)
      |> Base.encode16(case: :lower)

    "#{provider}:#{kind}:#{digest}"
  end

  # As the CLI does: the key in its environment wins over the login.
  defp payer(settings) do
    case variable(settings, "CODEX_API_KEY", settings.api_key) do
      key when key in [nil, ""] -> {:home, home(settings)}
      key -> {:key, key}
    end
  end

  defp home(settings) do
    named = settings.codex_home || variable(settings, "CODEX_HOME", nil)

    case named || variable(settings, "HOME", nil) do
      nil -> ""
      path when named == nil -> Path.join(path, ".codex")
      path -> Codex.FileSystem.expand(path)
    end
  end

  defp variable(settings, name, given) do
    case settings.env do
      %{^name => value} -> value
      _ -> given || if(settings.clear_env? != true, do: System.get_env(name))
    end
  end

  defp provider(%{model_provider: id}) when is_binary(id), do: id
  defp provider(%{oss: true} = settings), do: settings.local_provider || "oss"
  defp provider(_settings), do: "default"
end
