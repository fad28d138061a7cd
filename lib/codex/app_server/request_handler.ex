defmodule Codex.AppServer.RequestHandler do
  @moduledoc """
  A behaviour for answering the server's requests in the turns of a thread. The option
  `request_handler` of a thread is a module with this behaviour, a function of the request, or a
  function of request and context.

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

  The handler gets all requests of `Codex.AppServer.Request`, except calls of the thread's own
  `tools`, and approvals if there is an `approval_policy` or `approval_hook`. The context is that of
  `Codex.Approvals`. The handler returns

    * an answer, as in the table of `Codex.AppServer.Request`
    * `:later` - any process answers `request.token` with `Codex.AppServer.answer/2` before
      `request.expires_at`
    * `:ignore` - a subscriber may answer; without a subscriber, the request is declined

  The handler runs in its own process for each request, which ends with the reader of the turn. The
  request is declined if the handler returns anything else, crashes, or does not answer within
  `approval_timeout_ms`; the first two are logged. The idle timeout is suspended until the answer.
  """

  @doc "Returns an answer to the request, `:later` or `:ignore`, as above."
  @callback handle_request(request :: Codex.AppServer.Request.t(), context :: map()) ::
              :later | :ignore | term()
end
