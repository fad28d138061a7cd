defmodule Codex.CompatTest do
  # Modules that only applications of 0.4.5 call.
  use ExUnit.Case, async: true

  doctest Codex.Realtime
  doctest Codex.Voice

  test "features without a mode of the CLI are errors of their own kind" do
    for {result, feature, words} <- [
          {Codex.Realtime.connect(%{}), :realtime, "Realtime support is not available"},
          {Codex.Realtime.stream(), :realtime, "Realtime support is not available"},
          {Codex.Voice.stream([]), :voice, "Voice support is not available"},
          {Codex.Voice.call(), :voice, "Voice support is not available"}
        ] do
      assert {:error, %Codex.Error{kind: :unsupported_feature} = error} = result
      assert error.details.feature == feature
      assert error.message =~ words
    end
  end
end
