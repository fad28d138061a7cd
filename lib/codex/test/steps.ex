defmodule Codex.Test.Steps do
  @moduledoc """
  The steps of a `Codex.Test` script. Import the module in a test:

      import Codex.Test.Steps

      script = [shell("mix test"), message("All green.")]

  A **step** answers one request of the CLI. An **item** is a message, a thought or an action of the
  model. An item or a string in place of a step is a whole response with one item; `respond/2` puts
  several items into one response.

  | Step | Seen by the CLI |
  | --- | --- |
  | an item, a string, `respond/2` | a complete response |
  | `failed/3`, `incomplete/2` | a response that ends badly |
  | `cut/2` | a stream that breaks off |
  | `silence/2` | nothing, for some time or forever |
  | `http_error/3` | a status other than 200 |
  | `raw/2` | exactly these events or bytes |
  | `fn request -> step end` | the returned step (see `t:Codex.Test.request/0`) |

  The CLI runs a tool call and sends its output in the next request, so every call needs a step
  after it.

  All functions are pure. They raise `ArgumentError` for unknown options.
  """

  alias Codex.JSON
  alias Codex.Options.Schema
  alias Codex.Test.Check

  @typedoc """
  An output item: its wire form without ids, which are added later, and streaming options.
  """
  @type item :: {:item, wire :: map(), streaming :: keyword()}

  @typedoc "The answer to one request."
  @type step ::
          String.t()
          | item()
          | {:respond, [item()], keyword()}
          | {:http, 100..599, body :: binary(), headers()}
          | {:silence, timeout(), keyword()}
          | {:raw, [map() | binary()], keyword()}
          | (Codex.Test.request() -> step())

  @typedoc "Response headers: a map or a list of pairs of strings, atoms or numbers."
  @type headers :: map() | [{String.t() | atom(), String.t() | atom() | number()}]

  @doc """
  Makes a message of the model.

  Options:

    * `:deltas` - the pieces in which the text is streamed before the item is complete (default: one
      piece). An app-server passes them on, `exec` does not. They are sent unchanged, even if they
      differ from the text.
    * `:delta_delay_ms` - the pause after each piece (default 0)
    * `:phase` - `"commentary"` or `"final_answer"` (default: not sent)

  ## Examples

      iex> message("Hello")
      {:item,
       %{
         "type" => "message",
         "role" => "assistant",
         "content" => [%{"type" => "output_text", "text" => "Hello"}]
       }, [deltas: ["Hello"]]}

      iex> {:item, _wire, streaming} = message("Hello", deltas: ["Hel", "lo"], delta_delay_ms: 5)
      iex> Enum.sort(streaming)
      [delta_delay_ms: 5, deltas: ["Hel", "lo"]]
  """
  @spec message(String.t(), keyword()) :: item()
  def message(text, opts \\ []) when is_binary(text) do
    Check.keys!(opts, [:deltas, :delta_delay_ms, :phase])

    wire = %{
      "type" => "message",
      "role" => "assistant",
      "content" => [%{"type" => "output_text", "text" => text}]
    }

    {:item, put_given(wire, opts, [:phase]), streaming(opts, text)}
  end

  @doc """
  Makes a message with `term` as JSON, for runs with an output schema. Takes the options of
  `message/2`.

      iex> {:item, %{"content" => [%{"text" => text}]}, _} = json(%{ok: true})
      iex> text
      ~S({"ok":true})
  """
  @spec json(term(), keyword()) :: item()
  def json(term, opts \\ []), do: message(JSON.encode!(term), opts)

  @doc """
  Makes a reasoning item; the CLI shows the text `summary`.

  Options: `:deltas`, `:delta_delay_ms` as in `message/2`, and `:content` - the raw reasoning text,
  which `exec` never shows (default: none).

      iex> {:item, wire, _} = reasoning("**Looking around**")
      iex> wire["summary"]
      [%{"type" => "summary_text", "text" => "**Looking around**"}]
  """
  @spec reasoning(String.t(), keyword()) :: item()
  def reasoning(summary, opts \\ []) when is_binary(summary) do
    Check.keys!(opts, [:deltas, :delta_delay_ms, :content])

    # The content is opaque to the CLI, which only sends it back in the next request.
    wire = %{
      "type" => "reasoning",
      "summary" => [%{"type" => "summary_text", "text" => summary}],
      "encrypted_content" => "b3BhcXVl"
    }

    wire =
      case opts[:content] do
        nil -> wire
        text -> Map.put(wire, "content", [%{"type" => "reasoning_text", "text" => text}])
      end

    {:item, wire, streaming(opts, summary)}
  end

  @shell_args [
    :workdir,
    :yield_time_ms,
    :max_output_tokens,
    :tty,
    :shell,
    :login,
    :sandbox_permissions,
    :justification,
    :prefix_rule
  ]

  @doc """
  Makes a call of the shell tool `exec_command`. The command `cmd` really runs, in the sandbox of
  the thread.

  Options: `:call_id` as in `tool_call/3`, and other arguments of the tool: `:workdir`,
  `:yield_time_ms` (after this time the model gets the output so far, and the command continues),
  `:max_output_tokens`, `:tty`, `:shell`, `:login`, `:sandbox_permissions`, `:justification`,
  `:prefix_rule`.

      iex> {:item, wire, _} = shell("ls", yield_time_ms: 1000)
      iex> {wire["name"], wire["arguments"]}
      {"exec_command", ~S({"cmd":"ls","yield_time_ms":1000})}
  """
  @spec shell(String.t(), keyword()) :: item()
  def shell(cmd, opts \\ []) when is_binary(cmd) do
    Check.keys!(opts, [:call_id | @shell_args])
    {args, opts} = Keyword.split(opts, @shell_args)
    tool_call("exec_command", args |> Map.new() |> Map.put(:cmd, cmd), opts)
  end

  @doc """
  Makes a call that changes files with `patch`, in the CLI's own format:

      iex> {:item, wire, _} = apply_patch(\"""
      ...> *** Begin Patch
      ...> *** Add File: hello.txt
      ...> +Hello
      ...> *** End Patch
      ...> \""")
      iex> {wire["type"], wire["name"]}
      {"custom_tool_call", "apply_patch"}

  The thread's sandbox must allow the write: a refused or malformed patch gives no item. Option:
  `:call_id`.
  """
  @spec apply_patch(String.t(), keyword()) :: item()
  def apply_patch(patch, opts \\ []) when is_binary(patch) do
    Check.keys!(opts, [:call_id])
    wire = %{"type" => "custom_tool_call", "name" => "apply_patch", "input" => patch}
    {:item, put_given(wire, opts, [:call_id]), []}
  end

  @doc """
  Makes a call that updates the plan: a list of `{text, :pending | :in_progress | :completed}` or
  strings (pending). The CLI shows it as a `todo_list`.

  Options: `:explanation` (a string), `:call_id`.

      iex> {:item, wire, _} = update_plan([{"look", :completed}, "fix"])
      iex> Codex.JSON.decode(wire["arguments"])
      {:ok,
       %{
         "plan" => [
           %{"step" => "look", "status" => "completed"},
           %{"step" => "fix", "status" => "pending"}
         ]
       }}
  """
  @spec update_plan([String.t() | {String.t(), :pending | :in_progress | :completed}], keyword()) ::
          item()
  def update_plan(plan, opts \\ []) when is_list(plan) do
    Check.keys!(opts, [:call_id, :explanation])
    {args, opts} = Keyword.split(opts, [:explanation])

    tool_call(
      "update_plan",
      args |> Map.new() |> Map.put(:plan, Enum.map(plan, &plan_step/1)),
      opts
    )
  end

  defp plan_step(text) when is_binary(text), do: plan_step({text, :pending})

  defp plan_step({text, status})
       when is_binary(text) and status in [:pending, :in_progress, :completed],
       do: %{step: text, status: status}

  defp plan_step(other) do
    raise ArgumentError,
          "a plan step is a string or {string, :pending | :in_progress | :completed}, got: " <>
            inspect(other)
  end

  @doc """
  Makes a finished web search for `query`. The provider does the search, so it needs no step after
  it. Option: `:queries` - all queries, if there are several.

      iex> {:item, wire, _} = web_search("elixir ports")
      iex> wire["action"]
      %{"type" => "search", "query" => "elixir ports"}
  """
  @spec web_search(String.t(), keyword()) :: item()
  def web_search(query, opts \\ []) when is_binary(query) do
    Check.keys!(opts, [:queries])
    action = put_given(%{"type" => "search", "query" => query}, opts, [:queries])
    {:item, %{"type" => "web_search_call", "status" => "completed", "action" => action}, []}
  end

  @doc """
  Makes a call of the tool `name`. `args` is a map, or a string that is sent unchanged, such as
  invalid JSON.

  Options:

    * `:namespace` - of the tool; an MCP tool has `"mcp__<server>"`, and a tool of the option `tools`
      on `codex exec` has `"mcp__host"`
    * `:call_id` - the id that the tool's output refers to (default: made when sent)

  ## Examples

      iex> tool_call("add", %{a: 1}, namespace: "mcp__calc")
      {:item,
       %{
         "type" => "function_call",
         "name" => "add",
         "arguments" => ~S({"a":1}),
         "namespace" => "mcp__calc"
       }, []}
  """
  @spec tool_call(String.t(), map() | String.t(), keyword()) :: item()
  def tool_call(name, args, opts \\ [])
      when is_binary(name) and (is_map(args) or is_binary(args)) do
    Check.keys!(opts, [:call_id, :namespace])
    args = if is_map(args), do: JSON.encode!(args), else: args
    wire = %{"type" => "function_call", "name" => name, "arguments" => args}
    {:item, put_given(wire, opts, [:call_id, :namespace]), []}
  end

  @doc """
  Makes an output item from its wire form (a map with a `"type"`). A missing `"id"` is added.

      iex> item(%{"type" => "image_generation_call", "status" => "completed", "result" => ""})
      {:item, %{"type" => "image_generation_call", "status" => "completed", "result" => ""}, []}
  """
  @spec item(map()) :: item()
  def item(%{"type" => type} = wire) when is_binary(type), do: {:item, wire, []}

  @respond [:usage, :headers, :delay_ms]

  @doc """
  Makes one response with `items` in order. Strings are messages.

  Options:

    * `:usage` - a map with any of `:input_tokens` (default 100), `:cached_input_tokens` (40),
      `:cache_write_input_tokens` (0), `:output_tokens` (20), `:reasoning_output_tokens` (5). The
      CLI adds up the responses of a thread, so a turn with one tool call reports twice these
      numbers.
    * `:headers` - further response headers, for example rate limits
      (`%{"x-codex-primary-used-percent" => 42}`)
    * `:delay_ms` - the time before the response begins (default 0)

  ## Examples

      iex> respond([reasoning("Hm"), "Done"], usage: %{input_tokens: 7})
      {:respond, [reasoning("Hm"), message("Done")], [usage: %{input_tokens: 7}]}
  """
  @spec respond([item() | String.t()], keyword()) :: step()
  def respond(items, opts \\ []) do
    Check.keys!(opts, @respond)
    Check.members!(opts[:usage] || %{}, usage_keys())
    {:respond, items!(items), opts}
  end

  @doc false
  def usage_keys do
    [
      :input_tokens,
      :cached_input_tokens,
      :cache_write_input_tokens,
      :output_tokens,
      :reasoning_output_tokens
    ]
  end

  @doc """
  Makes a failed response with `code` and `message`, for example the code
  `"context_length_exceeded"`, `"rate_limit_exceeded"`, `"insufficient_quota"`,
  `"server_is_overloaded"` or `"server_error"`. Options: `:items` before the failure (default:
  none), `:headers`, `:delay_ms`.

      iex> failed("server_error", "boom")
      {:respond, [], [ending: {:failed, "server_error", "boom"}]}
  """
  @spec failed(String.t(), String.t(), keyword()) :: step()
  def failed(code, message, opts \\ []) when is_binary(code) and is_binary(message),
    do: ending(opts, {:failed, code, message})

  @doc """
  Makes an unfinished response with a `reason`, for example `"max_output_tokens"` or
  `"content_filter"`. Takes the options of `failed/3`.

      iex> incomplete("max_output_tokens", items: ["Once upon a"])
      {:respond, [message("Once upon a")], [ending: {:incomplete, "max_output_tokens"}]}
  """
  @spec incomplete(String.t(), keyword()) :: step()
  def incomplete(reason, opts \\ []) when is_binary(reason),
    do: ending(opts, {:incomplete, reason})

  @doc """
  Makes a stream that breaks off. By default it ends normally without the final
  `response.completed`. With `after: n` the connection is dropped after `n` server-sent events (the
  first is `response.created`; a message has an event at its beginning, one for each delta and one
  at its end). Other options: `:headers`, `:delay_ms`.

      iex> cut(["never finished"], after: 2)
      {:respond, [message("never finished")], [ending: {:cut, 2}]}
  """
  @spec cut([item() | String.t()], keyword()) :: step()
  def cut(items, opts \\ []) do
    {n, opts} = opts |> Schema.pairs!() |> Keyword.pop(:after)

    unless is_nil(n) or (is_integer(n) and n >= 0),
      do: raise(ArgumentError, "cut/2: :after is a number of events, got: #{inspect(n)}")

    ending([items: items] ++ opts, if(n, do: {:cut, n}, else: :none))
  end

  defp ending(opts, ending) do
    Check.keys!(opts, [:items, :headers, :delay_ms])
    {items, opts} = Keyword.pop(opts, :items, [])
    {:respond, items!(items), opts ++ [ending: ending]}
  end

  @doc """
  Sends nothing for `ms` milliseconds, or `:infinity` (the default), and then closes the connection.

  Options:

    * `:headers` - `true` to send status and headers first (default `false`: not a single byte)
    * `:after` - items to stream before the silence; implies `headers: true` (default: none)

  ## Examples

      iex> silence()
      {:silence, :infinity, [headers: false, items: []]}
      iex> silence(:infinity, after: ["Wait"])
      {:silence, :infinity, [headers: true, items: [message("Wait")]]}
  """
  @spec silence(timeout(), keyword()) :: step()
  def silence(ms \\ :infinity, opts \\ []) when ms == :infinity or (is_integer(ms) and ms >= 0) do
    Check.keys!(opts, [:headers, :after])
    items = items!(opts[:after] || [])
    {:silence, ms, headers: opts[:headers] == true or items != [], items: items}
  end

  @doc """
  Makes an HTTP answer with `status`. A map or list as `body` is sent as JSON, a string unchanged.
  The CLI shows, for example, `error.message` of a 401 or 403, and the whole body of a 400.

      iex> http_error(429, %{error: %{type: "usage_limit_reached"}}, %{"retry-after" => 7})
      {:http, 429, ~S({"error":{"type":"usage_limit_reached"}}), [{"retry-after", "7"}]}
  """
  @spec http_error(100..599, map() | list() | String.t(), headers()) :: step()
  def http_error(status, body \\ "", headers \\ []) when status in 100..599 do
    body = if is_binary(body), do: body, else: JSON.encode!(body)
    {:http, status, body, Check.headers!(headers)}
  end

  @doc """
  Makes the body of a 200 response from pieces: a map is one server-sent event (named by its
  `"type"`), a string is sent unchanged. Options: `:headers` (default:
  `content-type: text/event-stream`), `:delay_ms`.

      iex> raw(["data: {\\n\\n", %{"type" => "response.created"}])
      {:raw, ["data: {\\n\\n", %{"type" => "response.created"}], []}
  """
  @spec raw([map() | binary()], keyword()) :: step()
  def raw(pieces, opts \\ []) when is_list(pieces) do
    Check.keys!(opts, [:headers, :delay_ms])

    for piece <- pieces, not is_binary(piece), not match?(%{"type" => _}, piece) do
      raise ArgumentError,
            ~s(raw/2 takes strings and maps with a "type", got: #{inspect(piece)})
    end

    {:raw, pieces, opts}
  end

  defp items!(items) when is_list(items) do
    Enum.map(items, fn
      text when is_binary(text) -> message(text)
      {:item, %{}, streaming} = item when is_list(streaming) -> item
      other -> raise ArgumentError, "expected an item or a string, got: #{inspect(other)}"
    end)
  end

  defp items!(other), do: raise(ArgumentError, "expected a list of items, got: #{inspect(other)}")

  defp streaming(opts, text) do
    deltas = Keyword.get(opts, :deltas, if(text == "", do: [], else: [text]))
    [{:deltas, deltas} | Keyword.take(opts, [:delta_delay_ms])]
  end

  defp put_given(wire, opts, keys) do
    for key <- keys, value = opts[key], into: wire, do: {Atom.to_string(key), value}
  end
end
