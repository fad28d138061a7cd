defmodule Codex.Surface.Config.Probe do
  @moduledoc false
  # Asks an app-server with `--strict-config` about configurations: one `config.toml` and one
  # `config/read` a question, some 2 ms. The server answers with all keys of each table that the
  # file sets, or with the first fault of the file.

  alias Codex.AppServer
  alias Codex.Surface.{Json, Program}

  @enforce_keys [:conn, :file]
  defstruct @enforce_keys

  @type t :: %__MODULE__{conn: pid(), file: Path.t()}

  @typedoc "Puts a value at its place: returns a whole configuration."
  @type put :: (term() -> map())

  # Keeps the server off the network.
  @base %{
    "model_provider" => "m",
    "model_providers" => %{"m" => %{"name" => "m", "base_url" => "http://127.0.0.1:9/v1"}},
    "analytics" => %{"enabled" => false},
    "features" => %{"plugins" => false}
  }

  @doc "Returns the features that every question sets."
  @spec features() :: [String.t()]
  def features, do: Map.keys(@base["features"])

  @doc "Writes the configuration of every question to a home, and returns its path."
  @spec write_base!(Path.t()) :: Path.t()
  def write_base!(home) do
    file = Path.join(home, "config.toml")
    File.write!(file, toml_file(@base))
    file
  end

  @doc "Calls a function with a probe."
  @spec open(Program.t(), (t() -> result)) :: result | {:error, String.t()} when result: term()
  def open(program, fun) do
    Program.with_model([], [], fn model ->
      file = write_base!(model.home)
      options = Keyword.put(Codex.Test.options(model), :codex_path, program.path)

      case AppServer.connect(options, cwd: model.workspace, strict_config: true) do
        {:ok, conn} ->
          try do
            fun.(%__MODULE__{conn: conn, file: file})
          after
            AppServer.disconnect(conn)
          end

        {:error, error} ->
          {:error,
           "#{program.path} app-server did not start: #{Codex.Error.normalize(error).message}"}
      end
    end)
  end

  @doc "Returns the configuration that the server reads, or the first fault."
  @spec ask(t(), map()) :: {:ok, map()} | {:error, String.t()}
  def ask(probe, config) do
    File.write!(probe.file, toml_file(@base |> merge(companions(config)) |> merge(config)))

    case AppServer.request(probe.conn, "config/read", %{"includeLayers" => false}) do
      {:ok, %{"config" => read}} -> {:ok, read}
      {:error, error} -> {:error, fault(error)}
    end
  end

  defp fault(error) do
    Codex.Error.normalize(error).message
    |> String.replace(~r/^.*?config\.toml:\d+:\d+: /s, "")
    |> String.split("\n")
    |> hd()
  end

  # Keys that the server asks for beside others.
  defp companions(%{"permissions" => %{"zz" => _}}), do: %{"default_permissions" => "zz"}

  defp companions(%{"model_providers" => %{"zz" => %{}}}),
    do: %{
      "model_providers" => %{"zz" => %{"name" => "zz", "base_url" => "http://127.0.0.1:9/v1"}}
    }

  defp companions(_config), do: %{}

  defp merge(%{} = one, %{} = two), do: Map.merge(one, two, fn _key, a, b -> merge(a, b) end)
  defp merge(_one, two), do: two

  # Every value is written inline, on the line of its top-level key.
  defp toml_file(config),
    do: for({key, value} <- config, do: [name(key), " = ", toml(value), "\n"])

  defp toml(%{} = map),
    do: ["{", Enum.map_intersperse(map, ", ", fn {k, v} -> [name(k), " = ", toml(v)] end), "}"]

  defp toml(list) when is_list(list), do: ["[", Enum.map_intersperse(list, ", ", &toml/1), "]"]
  defp toml(plain), do: plain |> Json.write() |> String.trim()

  defp name(key), do: if(key =~ ~r/^[\w-]+$/, do: key, else: toml(key))

  @typedoc "The answer of the server to a value that hardly any key takes."
  @type class ::
          {:type, String.t()}
          | {:integer, String.t()}
          | :array
          | :map
          | :struct
          | :words
          | :number
          | :anything
          | :gone
          | :untagged
          | {:unclear, String.t()}

  @doc "Returns the class of the values at a place."
  @spec class(t(), put()) :: class()
  def class(probe, put) do
    case ask(probe, put.(1.5)) do
      {:ok, _read} -> if match?({:ok, _}, ask(probe, put.([[1.5]]))), do: :anything, else: :number
      {:error, fault} -> of_fault(fault)
    end
  end

  @expected [
    {~r/unknown (configuration )?field/, :gone},
    {~r/did not match any variant of untagged/, :untagged},
    {~r/expected a boolean/, {:type, "boolean"}},
    {~r/expected path string/, {:type, "path"}},
    {~r/expected a keybinding string/, {:type, "keybinding"}},
    {~r/expected string or map|expected string only|expected variant identifier/, :words},
    {~r/expected a string/, {:type, "string"}},
    {~r/expected a sequence/, :array},
    {~r/expected a map/, :map},
    {~r/expected (internally tagged enum|struct)/, :struct},
    {~r/expected f64/, :number}
  ]

  defp of_fault(fault) do
    case Regex.run(~r/expected (?:a nonzero )?([ui](?:8|16|32|64|size))\b/, fault) do
      [_, int] ->
        {:integer, int}

      nil ->
        Enum.find_value(@expected, {:unclear, fault}, fn {text, class} ->
          fault =~ text && class
        end)
    end
  end

  @doc "Returns the words that an enum takes, or nil."
  @spec words(t(), put()) :: [String.t()] | nil
  def words(probe, put) do
    with {:error, fault} <- ask(probe, put.("zz-no-such")),
         [_, list] <- Regex.run(~r/unknown variant `zz-no-such`, expected (.*)$/, fault) do
      for [_, word] <- Regex.scan(~r/`([^`]*)`/, list), do: word
    else
      _other -> nil
    end
  end
end
