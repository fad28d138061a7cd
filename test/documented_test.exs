defmodule Codex.DocumentedTest do
  # Public modules, functions, callbacks and types are documented, and name only public types.
  use ExUnit.Case, async: true

  @root Path.expand("..", __DIR__)

  # The modules of `lib/` without implementations of protocols, as `{module, docs}`.
  defp modules do
    {:ok, modules} = :application.get_key(:codex_sdk, :modules)

    for module <- modules, in_lib?(module), not implementation?(module) do
      {:docs_v1, _, _, _, doc, _, docs} = Code.fetch_docs(module)
      {module, doc, docs}
    end
  end

  defp in_lib?(module) do
    source = to_string(module.module_info(:compile)[:source])
    path = source |> String.split("/lib/") |> List.last()
    File.exists?(Path.join([@root, "lib", path]))
  end

  defp implementation?(module) do
    Code.ensure_loaded!(module)
    function_exported?(module, :__impl__, 1)
  end

  defp public, do: for({module, doc, docs} <- modules(), doc != :hidden, do: {module, docs})

  defp text?(%{"en" => text}), do: String.trim(text) != ""
  defp text?(_), do: false

  test "every module has documentation, or says that it is hidden" do
    modules = modules()
    assert length(modules) > 200
    assert for({module, doc, _} <- modules, doc != :hidden, not text?(doc), do: module) == []
  end

  test "every function, macro, callback and type of a public module has documentation" do
    entries =
      for {module, docs} <- public(),
          {{kind, name, arity}, _, _, doc, _} <- docs,
          doc != :hidden do
        {text?(doc), {module, kind, name, arity}}
      end

    assert length(entries) > 600
    assert for({false, entry} <- entries, do: entry) == []
  end

  test "every documented function has a spec" do
    missing =
      for {module, docs} <- public(),
          {:ok, specs} <- [Code.Typespec.fetch_specs(module)],
          {{:function, name, arity}, _, _, doc, _} <- docs,
          doc != :hidden,
          not List.keymember?(specs, {name, arity}, 0),
          do: {module, name, arity}

    assert missing == []
  end

  test "public specs and types name only public types" do
    hidden = for {module, :hidden, _} <- modules(), into: MapSet.new(), do: module

    private =
      for {module, docs} <- public(),
          {:ok, types} <- [Code.Typespec.fetch_types(module)],
          {kind, {name, _, args}} <- types,
          kind == :typep or hidden_type?(docs, name, length(args)),
          into: MapSet.new(),
          do: {module, name, length(args)}

    wrong =
      for {module, docs} <- public(),
          {where, form} <- forms(module, docs),
          {owner, _, _} = type <- types(form, module),
          owner in hidden or type in private,
          uniq: true,
          do: {module, where, type}

    assert wrong == []
  end

  defp hidden_type?(docs, name, arity) do
    Enum.any?(docs, &match?({{:type, ^name, ^arity}, _, _, :hidden, _}, &1))
  end

  # The forms of documented functions, callbacks and types.
  defp forms(module, docs) do
    shown =
      for {{kind, name, arity}, _, _, doc, _} <- docs, doc != :hidden, do: {kind, name, arity}

    {:ok, specs} = Code.Typespec.fetch_specs(module)
    {:ok, types} = Code.Typespec.fetch_types(module)

    callbacks =
      case Code.Typespec.fetch_callbacks(module) do
        {:ok, callbacks} -> callbacks
        :error -> []
      end

    for({{name, arity}, forms} <- specs, {:function, name, arity} in shown, do: {name, forms}) ++
      for(
        {{name, arity}, forms} <- callbacks,
        {:callback, name, arity} in shown,
        do: {name, forms}
      ) ++
      for {:type, {name, form, args}} <- types, {:type, name, length(args)} in shown do
        {name, form}
      end
  end

  # The types that a form names, as `{module, name, arity}`.
  defp types({:remote_type, _, [{:atom, _, owner}, {:atom, _, name}, args]}, module),
    do: [{owner, name, length(args)} | types(args, module)]

  defp types({:user_type, _, name, args}, module),
    do: [{module, name, length(args)} | types(args, module)]

  defp types(form, module) when is_tuple(form), do: form |> Tuple.to_list() |> types(module)
  defp types(forms, module) when is_list(forms), do: Enum.flat_map(forms, &types(&1, module))
  defp types(_form, _module), do: []

  test "every public module is in one group of the documentation" do
    groups = Mix.Project.config()[:docs][:groups_for_modules]

    for {module, _docs} <- public() do
      assert [_group] = for({group, list} <- groups, member?(list, module), do: group),
             inspect(module)
    end

    listed = for {_, list} <- groups, is_list(list), name <- list, is_atom(name), do: name
    assert listed -- for({module, _} <- public(), do: module) == []
  end

  defp member?(%Regex{} = regex, module), do: inspect(module) =~ regex
  defp member?(list, module) when is_list(list), do: Enum.any?(list, &member?(&1, module))
  defp member?(name, module), do: name == module
end
