defmodule Codex.ToolOutputTest do
  use ExUnit.Case, async: true

  alias Codex.ToolOutput
  alias Codex.ToolOutput.{FileContent, Image}

  doctest Codex.ToolOutput

  @png Base.decode64!(
         "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
       )
  @url "data:image/png;base64," <> Base.encode64(@png)

  setup do
    {:ok, path} = Codex.FileSystem.hand_over(System.tmp_dir!(), "dot.png", @png)
    on_exit(fn -> File.rm_rf!(Path.dirname(path)) end)
    %{path: path, root: Path.dirname(path)}
  end

  test "images of a file, of bytes and of base64 are data URLs", %{path: path} do
    for image <- [
          ToolOutput.image(path: path),
          ToolOutput.image(%{"bytes" => @png}),
          ToolOutput.image(data: Base.encode64(@png)),
          ToolOutput.image(url: @url)
        ],
        do:
          assert(
            ToolOutput.content(image) ==
              {:ok, [%{"type" => "input_image", "image_url" => @url}]}
          )

    assert %Image{url: "data:image/jpeg;base64,AA=="} =
             ToolOutput.image(bytes: <<0>>, mime_type: "image/jpeg")
  end

  test "remote and unreadable images are errors", %{root: root} do
    for url <- ["https://example.com/a.png", "http://x", "file:///a.png", "sediment://file"] do
      assert ToolOutput.image(url: url) == {:error, {:remote_image, url}}
      assert ToolOutput.content(%Image{url: url}) == {:error, {:remote_image, url}}
      wire = %{"type" => "input_image", "image_url" => url}
      assert ToolOutput.content(["see", wire]) == {:error, {:remote_image, url}}
      nested = %{wire | "image_url" => %{"url" => url}}
      assert ToolOutput.content([nested]) == {:error, {:remote_image, url}}
    end

    assert ToolOutput.image(path: Path.join(root, "gone.png")) ==
             {:error, {:invalid_image_path, :enoent}}

    assert ToolOutput.image(path: root) ==
             {:error, {:invalid_image_path, {:not_regular, :directory}}}

    text = Path.join(root, "a.txt")
    File.write!(text, "text")
    assert ToolOutput.image(path: text) == {:error, {:unsupported_image_type, ".txt"}}
    assert_raise ArgumentError, ~r/unknown attribute :uri/, fn -> ToolOutput.image(uri: "x") end
  end

  test "every type of image has its URL", %{root: root} do
    for {name, bytes, type} <- [
          {"a.bin", <<0xFF, 0xD8, 0xFF, 0xE0>>, "image/jpeg"},
          {"b", "GIF89a", "image/gif"},
          {"c", "RIFF\0\0\0\0WEBP", "image/webp"},
          {"d", "BM..", "image/bmp"},
          {"e", <<"II", 42, 0>>, "image/tiff"},
          {"f", <<0, 0, 1, 0>>, "image/x-icon"},
          {"g.jpg", "unknown", "image/jpeg"},
          {"h.ICO", "unknown", "image/x-icon"}
        ] do
      path = Path.join(root, name)
      File.write!(path, bytes)
      assert %Image{url: url} = ToolOutput.image(path: path)
      assert url == "data:#{type};base64,#{Base.encode64(bytes)}"
    end
  end

  test "content of texts, images and terms" do
    text = &%{"type" => "input_text", "text" => &1}
    assert ToolOutput.content("a" <> <<255>>) == {:ok, [text.("a\uFFFD")]}
    assert ToolOutput.content(ToolOutput.text("a")) == {:ok, [text.("a")]}
    assert ToolOutput.content(%{a: 1}) == {:ok, [text.(~s({"a":1}))]}
    assert ToolOutput.content(nil) == {:ok, [text.("null")]}
    assert ToolOutput.content([]) == {:ok, [text.("[]")]}
    assert ToolOutput.content(["a", "b"]) == {:ok, [text.(~s(["a","b"]))]}

    assert ToolOutput.content(["a", [ToolOutput.text("b")]]) ==
             {:ok, [text.("a"), text.("b")]}

    assert {:ok, [%{"text" => json}]} = ToolOutput.content(ToolOutput.file(data: "QQ=="))
    assert json == ~s({"file_data":{"data":"QQ=="},"type":"input_file"})
    assert {:error, {:not_encodable, _, _}} = ToolOutput.content({:a, 1})
    assert {:error, {:not_encodable, _, _}} = ToolOutput.content([ToolOutput.text("a"), self()])
  end

  test "a staged file is read", %{path: path} do
    {:ok, attachment} = Codex.Files.stage(path)

    assert %{"type" => "input_file", "file_data" => file} = ToolOutput.normalize(attachment)

    assert file == %{
             "file_id" => attachment.id,
             "filename" => "dot.png",
             "data" => Base.encode64(@png)
           }

    gone = %{attachment | path: path <> ".gone"}
    refute is_map_key(ToolOutput.normalize(gone)["file_data"], "data")
    assert {:ok, [%{"text" => json}]} = ToolOutput.content(attachment)
    assert {:ok, %{"type" => "input_file"}} = Codex.JSON.decode(json)
  end

  test "normal forms have no duplicates" do
    image = %Image{file_id: "f", detail: "low"}
    file = %FileContent{url: "u", filename: "n"}

    assert ToolOutput.normalize([image, [image, file], file, %{a: %{b: [1]}}, "t"]) == [
             %{
               "type" => "input_image",
               "image_url" => %{"file_id" => "f", "detail" => "low"}
             },
             %{
               "type" => "input_file",
               "file_data" => %{"file_url" => "u", "filename" => "n"}
             },
             %{"a" => %{"b" => [1]}},
             "t"
           ]

    assert ToolOutput.normalize(ToolOutput.image(data: "QQ==")) == %{
             "type" => "input_image",
             "image_url" => %{"data" => "QQ==", "detail" => "auto"}
           }
  end
end
