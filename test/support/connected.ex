defmodule Codex.Connected do
  @moduledoc "Connections to the real server, and threads over them, on a scripted model."

  @doc "A connection to the model's own server, which ends with the test. Options: those of `Codex.AppServer.connect/2`."
  def connect!(model, options \\ []) do
    options = Keyword.put_new(options, :cwd, model.workspace)
    {:ok, conn} = Codex.AppServer.connect(Codex.Test.options(model), options)
    ExUnit.Callbacks.on_exit(fn -> Codex.AppServer.disconnect(conn) end)
    conn
  end

  @doc "A new thread over a connection."
  def thread!(model, conn, options \\ []) do
    options = Codex.Test.thread_options(model) ++ [transport: {:app_server, conn}] ++ options
    {:ok, thread} = Codex.start_thread(Codex.Test.options(model), options)
    thread
  end

  @doc "The operating system's process of a connection's server."
  def os_pid(conn), do: GenServer.call(conn, :os_pid)
end
