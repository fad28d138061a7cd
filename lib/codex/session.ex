defmodule Codex.Session do
  @moduledoc """
  Remembers conversations between runs of `Codex.AgentRunner`: a behaviour, for a store of the
  application.

      {:ok, memory} = Codex.Session.Memory.start_link()
      {:ok, config} = Codex.RunConfig.new(session: {Codex.Session.Memory, memory})
      {:ok, thread} = Codex.start_thread()
      {:ok, _} = Codex.AgentRunner.run(thread, "My name is Ada", run_config: config)
      # Later, with a new thread: it goes on with the conversation of the newest entry.
      {:ok, result} = Codex.AgentRunner.run(thread, "What is my name?", run_config: config)

  The CLI keeps the conversation itself; an entry has its id. A run with a new thread resumes the
  conversation of the newest entry; a thread that has begun keeps its own. `session_input_callback`
  of `Codex.RunConfig` gets the entries, and may change the input.

  A callback that fails in a run is logged, and the run goes on without it. The functions of this
  module raise `Codex.OptionError` for a term that is no session.
  """

  alias Codex.OptionError

  @typedoc """
  A run: its input, the text of the answer, and the id of the thread. `previous_response_id` is nil:
  the CLI has none.
  """
  @type entry :: %{
          input: Codex.Input.t(),
          response: String.t() | nil,
          conversation_id: String.t() | nil,
          previous_response_id: String.t() | nil
        }

  @typedoc "A module with this behaviour, and its state."
  @type t :: {module(), state :: term()}

  @doc "Returns the entries, the oldest first."
  @callback load(state :: term()) :: {:ok, [entry()]} | {:error, term()}

  @doc "Adds an entry."
  @callback save(state :: term(), entry()) :: :ok | {:ok, term()} | {:error, term()}

  @doc "Removes all entries."
  @callback clear(state :: term()) :: :ok | {:ok, term()} | {:error, term()}

  @doc "Returns the entries of a session."
  @spec load(t()) :: {:ok, [entry()]} | {:error, term()}
  def load(session) do
    {module, state} = checked(session)
    module.load(state)
  end

  @doc "Adds an entry to a session."
  @spec save(t(), entry()) :: :ok | {:ok, term()} | {:error, term()}
  def save(session, entry) when is_map(entry) do
    {module, state} = checked(session)
    module.save(state, entry)
  end

  @doc "Removes all entries of a session."
  @spec clear(t()) :: :ok | {:ok, term()} | {:error, term()}
  def clear(session) do
    {module, state} = checked(session)
    module.clear(state)
  end

  # States may hold secrets.
  defp checked(session) do
    if valid?(session),
      do: session,
      else:
        raise(OptionError.argument(:session, "[redacted]", "{module, state} of this behaviour"))
  end

  @doc """
  Returns whether a term is a session: `{module, state}` with a module that has the callbacks.

      iex> Codex.Session.valid?({Codex.Session.Memory, self()})
      true
      iex> Codex.Session.valid?({String, nil})
      false
  """
  @spec valid?(term()) :: boolean()
  def valid?({module, _state}) when is_atom(module) and module not in [nil, true, false] do
    match?({:module, _}, Code.ensure_loaded(module)) and
      Enum.all?([load: 1, save: 2, clear: 1], fn {name, arity} ->
        function_exported?(module, name, arity)
      end)
  end

  def valid?(_other), do: false
end
