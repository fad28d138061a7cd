defmodule Codex.AppServer.V1 do
  @moduledoc """
  Keeps the functions of the app-server's first protocol callable. The CLI has removed its methods.

  Each function returns `{:error, {:unsupported, text}}` and sends nothing. The text names the
  function of `Codex.AppServer` to call instead.
  """

  alias Codex.AppServer

  @typedoc "The result of every function: the method, and its replacement."
  @type error :: {:error, {:unsupported, String.t()}}

  # Function, arguments after the connection (`\\` if the last one is optional), method,
  # replacement.
  @gone [
    {:new_conversation, [], :params, "newConversation", "thread_start"},
    {:list_conversations, [], :opts, "listConversations", "thread_list"},
    {:resume_conversation, [], :params, "resumeConversation", "thread_resume"},
    {:send_user_message, [:conversation_id, :input], nil, "sendUserMessage", "turn_start"},
    {:send_user_turn, [:conversation_id, :input], :opts, "sendUserTurn", "turn_start"},
    {:interrupt_conversation, [:conversation_id], nil, "interruptConversation", "turn_interrupt"},
    {:add_conversation_listener, [:conversation_id], :opts, "addConversationListener",
     "thread_resume"},
    {:remove_conversation_listener, [:subscription_id], nil, "removeConversationListener",
     "thread_unsubscribe"}
  ]

  for {name, args, optional, method, instead} <- @gone do
    args = Enum.map(args, &Macro.var(:"_#{&1}", __MODULE__))
    types = Enum.map(args, fn _ -> quote(do: term()) end)
    text = "#{method} was removed from the Codex CLI; use Codex.AppServer.#{instead}"

    @doc "`#{method}`. See `Codex.AppServer.#{instead}`."
    if optional do
      option = Macro.var(:"_#{optional}", __MODULE__)

      @spec unquote(name)(AppServer.conn(), unquote_splicing(types), AppServer.options()) ::
              error()
      def unquote(name)(_conn, unquote_splicing(args), unquote(option) \\ []),
        do: {:error, {:unsupported, unquote(text)}}
    else
      @spec unquote(name)(AppServer.conn(), unquote_splicing(types)) :: error()
      def unquote(name)(_conn, unquote_splicing(args)),
        do: {:error, {:unsupported, unquote(text)}}
    end
  end
end
