defmodule Codex.Config.Overrides do
  @moduledoc """
  Turns options into `--config` arguments of the CLI. Kept for callers of 0.4.5.

      iex> {:ok, options} = Codex.Options.new(reasoning_effort: :high)
      iex> {:ok, thread} = Codex.Thread.Options.new(personality: :pragmatic)
      iex> Codex.Config.Overrides.derived_overrides(options, thread)
      [{"model_reasoning_effort", "high"}, {"personality", "pragmatic"}]
      iex> Codex.Config.Overrides.cli_args([{"features.view_image", false}])
      ["--config", "features.view_image=false"]
  """

  alias Codex.Exec.{Flags, Secrets}
  alias Codex.Options.{Merge, Overrides, Table}

  # Options of the host over an app-server are no configuration, and no error here.
  @host for row <- Table.rows(),
            row.opts[:app] == :host,
            into: %{},
            do: {row.name, row.opts[:default]}

  @doc """
  Returns the overrides of these options as `{key, value}`, in the order of the table in
  `guides/options.md`. A thread's value wins over the client's.

  The `env` of MCP servers is left out, and headers and bearer tokens are names of variables. Raises
  `ArgumentError` for options that `codex exec` cannot take.
  """
  @spec derived_overrides(Codex.Options.t(), Codex.Thread.Options.t() | nil) :: [
          {String.t(), term()}
        ]
  def derived_overrides(%Codex.Options{} = options, thread_options \\ nil) do
    with {:ok, settings} <- Merge.settings(options, thread_options, %{}),
         {:ok, sent} <- settings |> Map.merge(@host) |> Flags.all(),
         {:ok, hidden} <- Secrets.hide(sent.overrides) do
      for {path, value} <- hidden.overrides,
          is_list(path),
          do: {Enum.join(path, "."), plain(value)}
    else
      {:error, reason} ->
        raise ArgumentError, "these options cannot be sent: #{inspect(reason)}"
    end
  end

  @doc """
  Adds the overrides of these options to `config`, under dotted keys. Keys that `config` has
  already, dotted or nested, keep their values. Returns nil if there are neither.

      iex> {:ok, options} = Codex.Options.new(reasoning_effort: :high, model_verbosity: :low)
      iex> Codex.Config.Overrides.merge_config(%{model_verbosity: "high"}, options, nil)
      %{:model_verbosity => "high", "model_reasoning_effort" => "high"}
  """
  @spec merge_config(map() | nil, Codex.Options.t(), Codex.Thread.Options.t() | nil) ::
          map() | nil
  def merge_config(config, %Codex.Options{} = options, thread_options) do
    derived = derived_overrides(options, thread_options)

    merged =
      for {key, value} <- derived,
          not has?(config || %{}, key),
          into: config || %{},
          do: {key, value}

    if merged == %{} and config == nil, do: nil, else: merged
  end

  defp has?(config, key) do
    flat? = Enum.any?(config, fn {name, _} -> to_string(name) == key end)
    flat? or nested?(config, String.split(key, "."))
  end

  defp nested?(_value, []), do: true

  defp nested?(%{} = map, [segment | rest]) do
    case Enum.find(map, fn {name, _} -> to_string(name) == segment end) do
      {_, value} -> nested?(value, rest)
      nil -> false
    end
  end

  # Only a table has keys.
  defp nested?(_value, _path), do: false

  @doc """
  Returns the arguments for a list of `{key, value}` pairs or `"key=value"` strings. Overrides of
  one table are merged, empty strings are dropped. Raises `ArgumentError` with the key of a value
  that TOML cannot hold.
  """
  @spec cli_args([{String.t() | atom(), term()} | String.t()]) :: [String.t()]
  def cli_args(overrides) when is_list(overrides) do
    with {:ok, overrides} <- overrides |> Enum.reject(&(&1 == "")) |> Overrides.new(),
         {:ok, arguments} <- Overrides.arguments(overrides) do
      Enum.flat_map(arguments, &["--config", &1])
    else
      {:error, which} ->
        raise ArgumentError, "this override cannot be written as TOML: #{inspect(which)}"
    end
  end

  defp plain({:table, members}),
    do: Map.new(members, fn {name, value} -> {name, plain(value)} end)

  defp plain({:datetime, text}), do: text
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(value), do: value
end
