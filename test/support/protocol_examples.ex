defmodule Codex.ProtocolExamples do
  @moduledoc """
  Values of the types of the app-server's protocol, made from its data. Texts and numbers are unique
  within a value, so that each can be found again.
  """

  @data Codex.Protocol.path() |> File.read!() |> Code.string_to_quoted!()
  @types for {:type, {name, type}} <- @data, into: %{}, do: {name, type}

  # Deeper objects have their required fields only.
  @deep 4

  @doc "Returns a notification's parameters by method: `:minimal` has the required members only."
  @spec notification(String.t(), :minimal | :full) :: map()
  def notification(method, size) do
    [type] = for {:notification, {^method, opts}} <- @data, do: opts[:params]
    value(type, size)
  end

  @doc "Returns an item of each form of the protocol."
  @spec items(:minimal | :full) :: [map()]
  def items(size) do
    {:one_of, forms} = @types["ThreadItem"]
    for form <- forms, do: value(form, size)
  end

  defp value(type, size) do
    Process.put(__MODULE__, 1_000)
    make(type, size, 0)
  end

  defp make({:ref, name}, size, depth), do: make(@types[name], size, depth)
  defp make({:nullable, type}, size, depth), do: make(type, size, depth)
  defp make({:list, type}, size, depth), do: [make(type, size, depth + 1)]
  defp make({:word, word}, _size, _depth), do: word
  defp make({:one_of, types}, size, depth), do: types |> hd() |> make(size, depth)

  defp make({:fields, fields}, size, depth) do
    for {kind, {wire, type}} <- fields,
        kind != :other,
        kind in [:required, :experimental_required] or (size == :full and depth < @deep),
        into: %{},
        do: {wire, make(type, size, depth + 1)}
  end

  defp make(:boolean, _size, _depth), do: true
  defp make(:null, _size, _depth), do: nil
  defp make(number, _size, _depth) when number in [:integer, :count, :number], do: next()
  defp make(:any, _size, _depth), do: %{"any" => next()}
  defp make(_string, _size, _depth), do: "text #{next()}"

  defp next do
    n = Process.get(__MODULE__) + 1
    Process.put(__MODULE__, n)
    n
  end
end
