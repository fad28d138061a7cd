defmodule Codex.AppServer.RequestHandler do
  @moduledoc """
  Who answers what the server asks in the turns of a thread: its option `request_handler`, a module with this behaviour, or a function of the
  request, or of request and context.

      handler = fn
        %Codex.AppServer.Request.UserInput{questions: questions} ->
          Map.new(questions, fn question -> {question.id, IO.gets(question.question <> " ")} end)

        _other ->
          :ignore
      end

      {:ok, thread} =
        Codex.start_thread([],
          transport: {:app_server, conn},
          collaboration_mode: :plan,
          request_handler: handler
        )

  It is asked for everything of `Codex.AppServer.Request` but calls of the thread's own `tools`, and approvals where there is an `approval_policy` or
  `approval_hook`. The context is that of `Codex.Approvals`. It says

    * an answer, as in the table of `Codex.AppServer.Request`
    * `:later` - somebody answers by `request.token`, with `Codex.AppServer.answer/2`, before `request.expires_at`
    * `:ignore` - a subscriber may answer; where there is none, it is no

  It runs in a process of its own for each request, which ends with the one that reads the turn. Anything else that it says, a crash, and no answer
  within `approval_timeout_ms` are a no; the log tells of the first two. While it is asked, the clocks for silence stand still.
  """

  @callback handle_request(request :: Codex.AppServer.Request.t(), context :: map()) ::
              :later | :ignore | term()
end
