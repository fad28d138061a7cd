defmodule Codex.AppServer.Options do
  @moduledoc false
  # The options of `Codex.AppServer.connect/2`: one row each, from which checks and docs are made.

  alias Codex.Options.{Cast, Overrides}
  alias Codex.Suggest

  @most 0xFFFFFFFF

  # {name, default, check, what is expected, doc}
  @table [
    {:cwd, nil, :path, "a path",
     "where the server works, and threads that name no `cwd`; default: the VM's own directory"},
    {:env, %{}, :env, "a map or keyword list of variables",
     "more variables for the server, on top of those of the client; nil takes one away"},
    {:clear_env, false, :boolean, "a boolean",
     "whether the VM's environment is left out, but for `PATH` and `HOME`"},
    {:config, %{}, :config, "a map or keyword list of configuration",
     "configuration for all threads of this server, as in the options of a thread"},
    {:strict_config, false, :boolean, "a boolean",
     "whether unknown configuration keys are errors (`--strict-config`)"},
    {:broken_config, :refuse, {:in, [:refuse, :allow]}, ":refuse or :allow",
     "what is done where the configuration cannot be read. The server itself would start with defaults, and **with the built-in provider**"},
    {:client_name, "codex_sdk", :text, "a text",
     "who is told to the server, and through it to the provider (`originator`)"},
    {:client_title, nil, :text, "a text", "the same, for people"},
    {:client_version, nil, :text, "a text", "its version; default: that of this package"},
    {:experimental_api, false, :boolean, "a boolean",
     "whether experimental methods and options may be used"},
    {:opt_out, [], :texts, "a list of texts",
     "methods of notifications that the server need not send"},
    {:init_timeout_ms, 10_000, :ms, "a positive integer in milliseconds",
     "how long starting and the server's hello may take"},
    {:answer_timeout_ms, 300_000, :ms_or_infinity,
     "a positive integer in milliseconds or :infinity",
     "how long a request of the server waits for an answer, before it gets the no of its kind"},
    {:max_queue, 1_000, :positive, "a positive integer",
     "how many messages may lie in a subscriber's mailbox: with more, nothing more is read from the server, which then waits"},
    {:max_ahead, 67_108_864, :positive, "a positive integer of bytes",
     "what is read all the same while requests wait for their answers; past that the connection ends with an overflow"},
    {:owner, nil, :pid, "a pid",
     "the process with which the connection ends; default: none, it ends with `disconnect/1`"}
  ]

  @doc "The options as a Markdown list."
  @spec docs() :: String.t()
  def docs do
    Enum.map_join(@table, "\n", fn {name, default, _, expected, doc} ->
      default = if default in [nil, %{}, []], do: "", else: ", default `#{inspect(default)}`"
      "  * `:#{name}` - #{doc} (#{expected}#{default})"
    end)
  end

  @doc "Checks them: a map with all of them."
  @spec new(keyword() | map()) ::
          {:ok, map()}
          | {:error,
             {:unknown_option, term(), atom() | nil}
             | {:invalid_option, atom(), term(), String.t()}
             | {:invalid_options, term()}}
  def new(options) do
    defaults = Map.new(@table, fn {name, default, _, _, _} -> {name, default} end)

    case Cast.pairs(options) do
      {:ok, pairs} -> Enum.reduce_while(pairs, {:ok, defaults}, &put/2)
      :error -> {:error, {:invalid_options, Codex.Options.Table.first_odd(options)}}
    end
  end

  defp put({name, value}, {:ok, set}) do
    case List.keyfind(@table, name, 0) do
      nil ->
        {:halt, {:error, {:unknown_option, name, Suggest.nearest(name, names())}}}

      {_, _, _, _, _} when value == nil ->
        {:cont, {:ok, set}}

      {_, _, check, expected, _} ->
        case check(check, value) do
          {:ok, value} -> {:cont, {:ok, %{set | name => value}}}
          :error -> {:halt, {:error, {:invalid_option, name, shown(name, value), expected}}}
        end
    end
  end

  defp names, do: for({name, _, _, _, _} <- @table, do: name)

  # They may hold keys.
  defp shown(name, _value) when name in [:env, :config], do: "[redacted]"
  defp shown(_name, value), do: value

  defp check(:boolean, value) when is_boolean(value), do: {:ok, value}
  defp check(:text, value) when is_binary(value) and value != "", do: text(value)
  defp check(:path, value) when is_binary(value) and value != "", do: {:ok, Path.expand(value)}
  defp check({:in, values}, value), do: if(value in values, do: {:ok, value}, else: :error)
  defp check(:ms, value) when is_integer(value) and value in 1..@most, do: {:ok, value}
  defp check(:ms_or_infinity, :infinity), do: {:ok, :infinity}
  defp check(:ms_or_infinity, value), do: check(:ms, value)
  defp check(:positive, value) when is_integer(value) and value > 0, do: {:ok, value}
  defp check(:pid, value) when is_pid(value), do: {:ok, value}

  defp check(:texts, value) when is_list(value) do
    if not List.improper?(value) and Enum.all?(value, &is_binary/1),
      do: {:ok, value},
      else: :error
  end

  defp check(:env, value) do
    with {:error, _} <- Cast.cast(:env, value), do: :error
  end

  defp check(:config, value) do
    with {:ok, told} <- Overrides.new(value), {:ok, _} <- Overrides.arguments(told) do
      {:ok, told}
    else
      _ -> :error
    end
  end

  defp check(_other, _value), do: :error

  defp text(value), do: if(String.valid?(value), do: {:ok, value}, else: :error)
end
