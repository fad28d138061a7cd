defmodule Codex.ShortInspect do
  @moduledoc false
  # Inspects large structs on one screen: the important fields, with texts and lists cut unless the
  # caller sets the limits to `:infinity`. `Map.from_struct/1` has everything.

  import Inspect.Algebra

  @longest_text 300
  @longest_list 12

  @doc "Inspects a struct with these fields only; empty fields are left out."
  @spec fields(module(), keyword(), Inspect.Opts.t()) :: Inspect.Algebra.t()
  def fields(module, fields, opts),
    do: doc("##{inspect(module)}<", Enum.reject(fields, &empty?/1), ">", opts)

  @doc "Inspects a struct of data, without the fields that have their default."
  @spec data(struct(), Inspect.Opts.t()) :: Inspect.Algebra.t()
  def data(%module{} = struct, opts) do
    defaults = module.__struct__()

    fields =
      for {name, value} <- Map.from_struct(struct), value != Map.fetch!(defaults, name) do
        {name, value}
      end

    doc("%#{inspect(module)}{", fields, "}", opts)
  end

  defp empty?({_name, value}), do: value in [nil, [], %{}]

  defp doc(left, fields, right, opts) do
    opts = %{
      opts
      | printable_limit: shorter(opts.printable_limit, @longest_text),
        limit: shorter(opts.limit, @longest_list)
    }

    # All fields that were chosen; what they hold is cut.
    container_doc(left, fields, right, %{opts | limit: :infinity}, fn {name, value}, _opts ->
      concat(color("#{name}: ", :atom, opts), to_doc(value, opts))
    end)
  end

  defp shorter(:infinity, _most), do: :infinity
  defp shorter(limit, most), do: min(limit, most)
end
