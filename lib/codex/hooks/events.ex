# The structs of all events, from `Codex.Hooks.Table`.
for name <- Codex.Hooks.Table.names() do
  row = Codex.Hooks.Table.row(name)

  fields =
    row.fields ++
      [thread_id: {"String.t() | nil", "the thread, that of a sub-agent if it is one"}]

  lines = for {field, {_type, doc}} <- fields, do: "  * `#{field}` - #{doc}\n"
  answers = Enum.map_join(row.answers, ", ", &Codex.Hooks.Answer.shape/1)

  defmodule row.module do
    @moduledoc """
    #{row.doc}

    #{lines}
    Answers: #{answers}. See `Codex.Hooks`.
    """

    @enforce_keys Keyword.keys(fields)
    defstruct @enforce_keys

    types = for {field, {type, _doc}} <- fields, do: {field, Code.string_to_quoted!(type)}

    @typedoc "The event. Fields: see above."
    @type t :: %__MODULE__{unquote_splicing(types)}

    defimpl Inspect do
      def inspect(event, opts), do: Codex.ShortInspect.data(event, opts)
    end
  end
end
