defmodule Codex.Home.Isolated do
  @moduledoc """
  Makes a `CODEX_HOME` for runs that must not see or change the user's home: without login, AGENTS
  file, rules and sessions, and with only the given configuration.

      {:ok, home} =
        Codex.Home.Isolated.create(config: %{"model" => "gpt-6", "analytics.enabled" => false})

      {:ok, thread} = Codex.start_thread([codex_home: home, api_key: key], isolation: :hermetic)

  The given configuration applies with every `isolation` and with `ignore_user_config`: the CLI is
  not told to ignore the `config.toml` of such a home, because it is not the user's.

  The directory belongs to the process that made it. The directory and its sessions are removed when
  that process ends, when `remove/1` is called, or when the VM ends: at the end of a script, by
  `System.halt/1`, or by a signal. If the VM halts or is killed, a program that watches the VM
  removes the directory within seconds.
  """
  alias Codex.{FileSystem, TemporaryDirectories}
  alias Codex.Options.{Overrides, Schema}

  @typedoc "Why no home was made: invalid configuration or option, or a file that was not written."
  @type error ::
          {:invalid_config, term()}
          | Codex.OptionError.t()
          | {:write_failed, Path.t(), Codex.Reason.file()}

  @schema Schema.new(
            [
              {:config, :any,
               "the contents of its `config.toml`: map or keyword; keys are split at dots",
               default: %{}, secret: true, expected: "a map or keyword of configuration"},
              {:dir, :path,
               "the directory in which the home is made. The CLI warns about homes in the " <>
                 "temporary folder", shown: "the user's cache folder"},
              {:owner, :pid, "the process with which the home goes", shown: "the caller"}
            ],
            places: true
          )

  @doc """
  Makes a home. Options:

  #{Schema.docs(@schema)}

  Returns `{:ok, path}`. Errors: `Codex.OptionError`, `{:invalid_config, key}`,
  `{:write_failed, path, posix}`. Raises `RuntimeError` if the application `:codex_sdk` is not
  started.
  """
  @spec create(keyword()) :: {:ok, Path.t()} | {:error, error()}
  def create(opts \\ []) do
    with {:ok, opts} <- Schema.validate(@schema, opts),
         {:ok, toml} <- toml(opts.config),
         do: make(opts.dir || default_dir(), toml, opts.owner || self())
  end

  @doc "Removes a home before its owner ends. Other directories are not touched."
  @spec remove(Path.t()) :: :ok
  def remove(home) do
    if TemporaryDirectories.known?(home) do
      _ = File.rm_rf(home)
      _ = TemporaryDirectories.forget([home])
    end

    :ok
  end

  @doc false
  # Changes the owner of a home.
  @spec give(Path.t(), pid()) :: :ok
  def give(home, owner) do
    _ = TemporaryDirectories.forget([home])
    _ = TemporaryDirectories.adopt([home], owner, :remove)
    :ok
  end

  defp default_dir, do: :filename.basedir(:user_cache, "codex_sdk") |> IO.chardata_to_string()

  # Dotted keys only, so that the order of lines does not matter.
  defp toml(config) do
    with {:ok, told} <- Overrides.new(config),
         false <- Enum.any?(told, &is_binary/1) do
      {:ok, Overrides.document(told)}
    else
      true -> {:error, {:invalid_config, :not_a_table}}
      {:error, which} -> {:error, {:invalid_config, which}}
    end
  end

  defp make(parent, toml, owner) do
    name = "home-" <> Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
    home = parent |> Path.join(name) |> Path.expand()
    adopt!(home, owner)

    # Both are private when they are created: the configuration may hold keys.
    with :ok <- FileSystem.make_private(home),
         :ok <- Codex.Home.mark(home),
         :ok <- FileSystem.swap(Path.join(home, "config.toml"), "", toml) do
      {:ok, home}
    else
      {:error, reason} ->
        _ = File.rm_rf(home)
        _ = TemporaryDirectories.forget([home])
        {:error, {:write_failed, home, reason}}
    end
  end

  defp adopt!(home, owner) do
    with {:error, :not_started} <- TemporaryDirectories.adopt([home], owner, :remove) do
      raise "a home needs the application :codex_sdk, which is not started: " <>
              "call Application.ensure_all_started(:codex_sdk)"
    end
  end
end
