defmodule Codex.MCP.Handler do
  @moduledoc """
  Answers requests of MCP servers: elicitation, roots and sampling.

      defmodule MyApp.Answers do
        @behaviour Codex.MCP.Handler

        @impl true
        def elicit(%{"message" => message}, _context) do
          if MyApp.ask(message), do: {:accept, %{}}, else: :decline
        end
      end

      Codex.MCP.Client.start_link(command: ["server"], handler: MyApp.Answers)

  All callbacks are optional. The client declares the capabilities of those that exist. Each request
  has a process of its own, and a time limit (`:handler_timeout_ms`). A crash, an invalid answer and
  a late answer decline the request. Servers of all protocol versions use the same callbacks.

  `context` is a map with `:server_name` and `:client`, the pid of the connection.
  """

  @doc """
  Answers `elicitation/create`. In form mode (`"mode"` is `"form"` or missing), `content` is a map
  for `"requestedSchema"`; the client adds the schema's defaults of missing fields. In URL mode the
  user has to open `"url"`; then `content` is not sent.
  """
  @callback elicit(params :: map(), context :: map()) ::
              {:accept, content :: map()} | :decline | :cancel

  @doc """
  Returns the roots of the client: maps with `"uri"` (`file://…`) and maybe `"name"`.
  """
  @callback roots(context :: map()) :: [map()]

  @doc "Answers `sampling/createMessage` with its result: `role`, `content`, `model`, `stopReason`."
  @callback sample(params :: map(), context :: map()) :: {:ok, map()} | {:error, term()}

  @optional_callbacks elicit: 2, roots: 1, sample: 2
end
