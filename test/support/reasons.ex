defmodule Codex.ReasonsOf do
  @moduledoc "Reasons of errors, from the source and from the types of public functions."

  @doc "Reasons in `{:error, reason}` of the source files, as terms: `{file, term}`."
  def source do
    for file <- Path.wildcard("lib/codex/**/*.ex"),
        {:ok, ast} = file |> File.read!() |> Code.string_to_quoted(),
        reason <- errors(ast),
        sample <- samples(reason),
        uniq: true,
        do: {file, sample}
  end

  defp errors(ast) do
    {_, found} =
      Macro.prewalk(ast, [], fn
        {:error, reason} = node, found -> {node, [reason | found]}
        node, found -> {node, found}
      end)

    found
  end

  # A term that is not a literal can be a string, a number or a name.
  defp samples(atom) when is_atom(atom), do: [atom]
  defp samples({tag, value}) when is_atom(tag), do: tuple(tag, [value])
  defp samples({:{}, _, [tag | values]}) when is_atom(tag), do: tuple(tag, values)
  defp samples(_other), do: []

  defp tuple(tag, values) do
    [for(value <- values, do: sample(value))]
    |> Enum.map(&List.to_tuple([tag | &1]))
  end

  defp sample(literal) when is_atom(literal) or is_binary(literal) or is_number(literal),
    do: literal

  defp sample(_code), do: "x"

  @doc "Reasons that the specs of public functions name: `{function, term}`."
  def specs do
    for module <- documented(),
        {:ok, specs} <- [Code.Typespec.fetch_specs(module)],
        {{name, arity}, clauses} <- specs,
        clause <- clauses,
        reason <- returned(module, clause),
        uniq: true,
        do: {"#{inspect(module)}.#{name}/#{arity}", reason}
  end

  @doc "The modules of the package that have documentation."
  def documented do
    {:ok, modules} = :application.get_key(:codex_sdk, :modules)

    for module <- modules,
        # Reasons of the tests do not count.
        not String.contains?(to_string(module.module_info(:compile)[:source]), "/test/support/"),
        {:docs_v1, _, _, _, %{}, _, _} <- [Code.fetch_docs(module)],
        do: module
  end

  defp returned(module, {:type, _, :bounded_fun, [fun, _]}), do: returned(module, fun)

  defp returned(module, {:type, _, :fun, [_args, result]}) do
    for {:tuple, [{:atom, :error}, reason]} <- expand(module, result, 0),
        do: term(reason)
  end

  defp returned(_module, _other), do: []

  # The members of a type as `{:atom, a}`, `{:tuple, [t]}` or `:other`.
  defp expand(_module, _type, depth) when depth > 12, do: []
  defp expand(module, {:ann_type, _, [_, type]}, depth), do: expand(module, type, depth)

  defp expand(module, {:type, _, :union, types}, depth),
    do: Enum.flat_map(types, &expand(module, &1, depth))

  defp expand(_module, {:atom, _, atom}, _depth), do: [{:atom, atom}]

  defp expand(module, {:type, _, :tuple, types}, depth) when is_list(types) do
    [first | rest] = for type <- types, do: expand(module, type, depth + 1)
    second = List.first(rest) || []

    # Keeps the part that distinguishes reasons: the tag, and for {:error, reason} the reason.
    for tag <- first, inner <- if(tag == {:atom, :error}, do: second, else: [:any]) do
      if inner == :any,
        do: {:tuple, [tag | List.duplicate(:other, length(rest))]},
        else: {:tuple, [tag, inner]}
    end
  end

  defp expand(module, {:user_type, _, name, args}, depth), do: user(module, name, args, depth)

  defp expand(_module, {:remote_type, _, [{:atom, _, module}, {:atom, _, name}, args]}, depth),
    do: user(module, name, args, depth)

  defp expand(_module, _type, _depth), do: [:other]

  defp user(module, name, args, depth) do
    with true <- String.starts_with?(inspect(module), "Codex"),
         {:ok, types} <- Code.Typespec.fetch_types(module),
         {_, {_, type, _}} <-
           Enum.find(types, fn {_, {other, _, vars}} ->
             other == name and length(vars) == length(args)
           end) do
      expand(module, type, depth + 1)
    else
      _ -> [:other]
    end
  end

  defp term({:atom, atom}), do: atom
  defp term({:tuple, members}), do: members |> Enum.map(&term/1) |> List.to_tuple()
  defp term(:other), do: "x"
end
