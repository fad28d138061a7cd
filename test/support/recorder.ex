defmodule Codex.Recorder do
  @moduledoc "The process of a connection that has no server: it tells its owner what it was asked, and answers as it was told."
  use GenServer

  @doc "Options: `:answer`, what each request gets (default `{:ok, %{}}`)."
  def start_link(opts),
    do: GenServer.start_link(__MODULE__, {self(), opts[:answer] || {:ok, %{}}})

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_call({:request, method, params, opts}, _from, {owner, answer} = state) do
    send(owner, {:request, method, params, opts})

    case answer do
      :stop -> {:stop, :shutdown, state}
      answer -> {:reply, answer, state}
    end
  end
end
