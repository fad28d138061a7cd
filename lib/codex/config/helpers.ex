defmodule Codex.Config.Helpers do
  @moduledoc """
  Common changes to the user's `config.toml`. All functions that write take the options of
  `Codex.Config.batch/2` and return its results.
  """

  alias Codex.Config
  alias Codex.Config.Error
  alias Codex.Options.Schema

  @otel [
    {:endpoint, :text, "the URL (required)", required: true},
    {:headers, :environment, "the headers", secret: true, expected: "a map of strings"},
    {:environment, :text, "the name of the environment"},
    {:log_user_prompt, :boolean, "exports prompts"}
  ]
  @protocol {:protocol, {:one_of, [:binary, :json]}, "the encoding, only for `:otlp_http`",
             default: :binary}
  @http Schema.new([@protocol | @otel])
  @grpc Schema.new(@otel)

  @typedoc "The changed file and its new version, or an error."
  @type result :: {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}

  @doc "Enables a feature. A table of settings is kept, with `enabled = true` in it."
  @spec enable_feature(String.t(), keyword()) :: result()
  def enable_feature(name, opts \\ []), do: feature(name, true, opts)

  @doc "Disables a feature. A table of settings is kept, with `enabled = false` in it."
  @spec disable_feature(String.t(), keyword()) :: result()
  def disable_feature(name, opts \\ []), do: feature(name, false, opts)

  defp feature(name, value, opts) do
    with {:ok, config} <- user(opts) do
      path =
        if is_map(user_value(config, ["features", name])),
          do: ["features", name, "enabled"],
          else: ["features", name]

      Config.put(path, value, opts)
    end
  end

  @doc """
  Adds an MCP server, or replaces the server of that name.

  `server` is a map or keyword list with the keys of `[mcp_servers.<name>]`: `command` with `args`,
  `env` and `cwd` for stdio, or `url` with `http_headers`, `bearer_token_env_var` and others for
  HTTP; also `enabled`, `required`, `enabled_tools`, `disabled_tools`, `startup_timeout_sec` and
  `tool_timeout_sec` (seconds).

  A server that the CLI would refuse is an error with the reason `:missing_key`, `:refused`, `:type`
  or `:value`. The reason is `:bad_value` for nil and for an invalid name of an environment
  variable.
  """
  @spec put_mcp_server(String.t(), map() | keyword(), keyword()) :: result()
  def put_mcp_server(name, server, opts \\ []),
    do:
      Config.put(
        ["mcp_servers", name],
        server,
        [merge: :replace] ++ Schema.pairs!(opts)
      )

  @doc "Removes an MCP server. A missing server is no error."
  @spec delete_mcp_server(String.t(), keyword()) :: result()
  def delete_mcp_server(name, opts \\ []), do: Config.delete(["mcp_servers", name], opts)

  @doc "Returns the MCP servers of a configuration by name, each with its keys unchanged."
  @spec mcp_servers(Config.t()) :: %{String.t() => map()}
  def mcp_servers(%Config{} = config), do: Config.get(config, "mcp_servers", %{})

  @doc "Returns one MCP server of a configuration, or nil."
  @spec mcp_server(Config.t(), String.t()) :: map() | nil
  def mcp_server(%Config{} = config, name) when is_binary(name),
    do: Config.get(config, ["mcp_servers", name])

  @doc "Marks a project as trusted or untrusted."
  @spec put_trust(Path.t(), :trusted | :untrusted, keyword()) :: result()
  def put_trust(dir, level, opts \\ []) when level in [:trusted, :untrusted],
    do: Config.put(["projects", Path.expand(dir), "trust_level"], level, opts)

  @doc """
  Sets the exporter of the CLI's own telemetry: `:none`, or `{protocol, settings}`.

  `protocol` is `:otlp_http` or `:otlp_grpc`. Settings:

  #{Schema.docs(@http)}

  Other keys of `[otel]` are kept. Raises `Codex.OptionError` for an invalid setting.
  """
  @spec put_otel(:none | {:otlp_http | :otlp_grpc, keyword()}, keyword()) :: result()
  def put_otel(exporter, opts \\ [])
  def put_otel(:none, opts), do: Config.put("otel.exporter", "none", opts)

  def put_otel({kind, settings}, opts) when kind in [:otlp_http, :otlp_grpc] do
    schema = if kind == :otlp_http, do: @http, else: @grpc

    settings =
      for {name, value} <- Schema.validate!(schema, settings), value != nil, do: {name, value}

    {exporter, others} = Keyword.split(settings, [:endpoint, :protocol, :headers])

    others =
      for {name, value} <- Enum.sort(others), do: {:put, ["otel", Atom.to_string(name)], value}

    exporter = %{wire(kind) => Map.new(exporter)}
    Config.batch([{:put, "otel.exporter", exporter, :replace} | others], opts)
  end

  defp wire(:otlp_http), do: "otlp-http"
  defp wire(:otlp_grpc), do: "otlp-grpc"

  defp user(opts),
    do:
      Config.load(
        [cwd: false] ++ Keyword.take(Schema.pairs!(opts), [:codex_home, :env, :profile])
      )

  # Only the user's own file counts, not the layers above it.
  defp user_value(config, path) do
    names =
      if Enum.any?(Config.layers(config), &(&1.name == :profile)), do: [:profile], else: [:user]

    Enum.find_value(Config.history(config, path), &if(&1.origin.layer in names, do: &1.value))
  end
end
