defmodule Codex.AppServer.Calls do
  @moduledoc false
  # The functions of `Codex.AppServer`: one for each method, with options alone, unless a row below
  # gives it positional parameters or further forms of values.
  #
  # A row is a method, and
  #
  #   * `name:`    - of the function, instead of the method's (`thread/start` is `thread_start`)
  #   * `args:`    - parameters by position, before the options
  #   * `values:`  - options that `Codex.AppServer.Params` converts
  #   * `also:`    - other names of options
  #   * `omit:`    - options with one of these values are not sent
  #   * `fixed:`   - options that are sent unless they are given
  #   * `timeout:` - how long the answer may take, in ms (default 30_000)
  #   * `returns:` - `:ok` instead of `{:ok, map}`
  #   * `doc:`     - further documentation

  alias Codex.OptionError
  alias Codex.Options.{Places, Schema}

  @default_timeout 30_000

  @thread [
    also: %{"working_directory" => "cwd"},
    values: %{"approval_policy" => :ask_for_approval, "sandbox" => :sandbox_mode},
    omit: [nil, [], false]
  ]
  @thread_doc "`:working_directory` is `:cwd`; `:sandbox` also takes `:strict`, `:permissive` " <>
                "and `:default`, which is not sent. Options that are nil, false or `[]` are " <>
                "not sent."
  @optional [omit: [nil, []]]
  @config [timeout: 10_000] ++ @optional

  @rows [
    {"thread/start", [doc: @thread_doc] ++ @thread},
    {"thread/resume", [args: [:thread_id], doc: @thread_doc] ++ @thread},
    {"thread/list", @optional},
    {"thread/archive", args: [:thread_id], returns: :ok},
    {"turn/start",
     [
       args: [:thread_id, :input],
       doc:
         "`input` is a string, or a list of strings and blocks: `%{type: :text, text: text}`, " <>
           "`%{type: :image, url: url}`, `%{type: :local_image, path: path}`, … While a turn is " <>
           "active, the server adds the input to that turn, and answers with its id.",
       timeout: 300_000,
       values: %{
         "input" => :user_input,
         "approval_policy" => :ask_for_approval,
         "sandbox_policy" => :sandbox_policy,
         "effort" => :reasoning_effort
       }
     ] ++ @optional},
    {"turn/interrupt", args: [:thread_id, :turn_id], returns: :ok},
    {"turn/steer", values: %{"input" => :user_input}},
    {"review/start",
     [
       args: [:thread_id, :target],
       doc:
         "`target` is `:uncommitted_changes`, `{:base_branch, branch}`, `{:commit, sha}`, " <>
           "`{:commit, sha, title}`, `{:custom, text}`, a string, or a map as on the wire.",
       timeout: 300_000,
       values: %{"target" => :review_target}
     ] ++ @optional},
    {"skills/list", omit: [nil, [], false]},
    {"fuzzyFileSearch",
     [args: [:query], doc: "Without `:roots` nothing is found.", fixed: %{"roots" => []}] ++
       @optional},
    {"model/list", @optional},
    {"config/read", @config},
    {"config/value/write",
     [
       name: :config_write,
       args: [:key_path, :value],
       doc: "`:merge_strategy` is `:replace` unless it is given. A value of nil deletes the key.",
       fixed: %{"merge_strategy" => "replace"}
     ] ++ @config},
    {"config/value/write", timeout: 10_000},
    {"config/batchWrite",
     [
       args: [:edits],
       doc:
         "`edits` is a list of maps with `:key_path`, `:value` (nil deletes) and " <>
           "`:merge_strategy` (default `:replace`). All of them are written, or none.",
       values: %{"edits" => :edits}
     ] ++ @config},
    {"command/exec", [args: [:command], timeout: :own] ++ @optional},
    {"command/exec/write",
     [
       name: :command_write_stdin,
       args: [:process_id, :delta_base64],
       doc:
         "For a command that `command_exec/4` started with a `:process_id` and `:stream_stdin`. " <>
           "The bytes are given unencoded.",
       values: %{"delta_base64" => :base64}
     ] ++ @optional},
    {"command/exec/write", []},
    {"thread/compact/start",
     name: :thread_compact,
     args: [:thread_id],
     doc: "The former name of `thread_compact_start/3`."},
    {"thread/compact/start", []},
    {"feedback/upload", @optional}
  ]

  @type row :: %{
          method: String.t(),
          name: atom(),
          args: [atom()],
          values: %{String.t() => atom()},
          also: %{String.t() => String.t()},
          omit: [term()],
          fixed: %{String.t() => term()},
          timeout: pos_integer() | :own,
          returns: :ok | :map,
          doc: String.t() | nil
        }

  @doc "Returns the rows of all functions for these methods."
  @spec rows([String.t()]) :: [row()]
  def rows(methods) do
    known = Enum.map(@rows, &elem(&1, 0))

    for({method, opts} <- @rows, method in methods, do: row(method, opts)) ++
      for method <- methods -- known, do: row(method, [])
  end

  defp row(method, opts) do
    %{
      method: method,
      name: opts[:name] || name(method),
      args: opts[:args] || [],
      values: opts[:values] || %{},
      also: opts[:also] || %{},
      omit: opts[:omit] || [],
      fixed: opts[:fixed] || %{},
      timeout: opts[:timeout] || @default_timeout,
      returns: opts[:returns] || :map,
      doc: opts[:doc]
    }
  end

  @doc """
  Returns the function name of a method.

      iex> Codex.AppServer.Calls.name("account/gatewayOAuth/read")
      :account_gateway_oauth_read
  """
  @spec name(String.t()) :: atom()
  def name(method) do
    # Methods come from the protocol file, not from the wire.
    method
    |> String.replace("OAuth", "Oauth")
    |> Macro.underscore()
    |> String.replace("/", "_")
    |> String.to_atom()
  end

  @doc "Returns the parameters for the wire, and their experimental parts."
  @spec params(row(), keyword(), term()) ::
          {:ok, map() | nil, [String.t()]}
          | {:error, OptionError.t()}
  def params(row, args, options) do
    with {:ok, pairs} <- pairs(options) do
      given = for {key, value} <- pairs, pair = option(row, key, value), do: pair
      # Later values win.
      fixed = Map.to_list(row.fixed)
      args = for {key, value} <- args, do: {key, value(row, Atom.to_string(key), value)}
      row.method |> Codex.Protocol.params(fixed ++ given ++ args) |> placed() |> login(row.method)
    end
  end

  # The server would accept an empty key or token.
  defp login({:ok, params, _} = result, "account/login/start") do
    cond do
      blank?(params["apiKey"]) -> blank(:api_key)
      blank?(params["accessToken"]) -> blank(:access_token)
      true -> result
    end
  end

  defp login(result, _method), do: result

  defp blank(key) do
    expected = "a non-empty string (is the variable set that it comes from?)"
    {:error, OptionError.invalid(key, "", expected)}
  end

  defp blank?(text), do: is_binary(text) and String.trim(text) == ""

  # The error for an option of another list names that list.
  defp placed({:error, %OptionError{reason: :unknown, path: [key]} = error}),
    do: {:error, Places.error(key) || error}

  defp placed(result), do: result

  defp pairs(nil), do: {:ok, []}
  defp pairs(options), do: Schema.pairs(options)

  defp option(row, key, value) do
    name = with text when is_binary(text) <- text(key), do: Macro.underscore(text)
    value = value(row, Map.get(row.also, name, name), value)
    if value in row.omit, do: nil, else: {Map.get(row.also, name, key), value}
  end

  defp value(_row, _key, nil), do: nil

  defp value(row, key, value) do
    case row.values do
      %{^key => fun} -> apply(Codex.AppServer.Params, fun, [value])
      _ -> value
    end
  end

  defp text(key) when is_atom(key) and key != nil, do: Atom.to_string(key)
  defp text(key) when is_binary(key) and byte_size(key) <= 64, do: key
  defp text(_key), do: nil

  # A command has a timeout of its own; the answer follows it.
  @grace 5_000
  @longest 0xFFFFFFFF

  @doc "Returns the default timeout of a request with these parameters, in ms."
  @spec timeout(row(), map() | nil) :: pos_integer() | :infinity
  def timeout(%{timeout: :own}, %{"disableTimeout" => true}), do: :infinity

  def timeout(%{timeout: :own}, %{"timeoutMs" => ms}) when is_integer(ms) and ms >= 0,
    do: min(ms + @grace, @longest)

  def timeout(%{timeout: :own}, _params), do: @default_timeout
  def timeout(%{timeout: ms}, _params), do: ms
end
