defmodule Codex.JSONRPC.Socket.TLS do
  @moduledoc false
  # The options of `:ssl` for a server: its certificate is always checked, against the system's authorities, and those of a file.

  alias Codex.JSONRPC.Socket.Address
  alias Codex.FileSystem

  @doc "Options of `:ssl.connect/4`. `given` are those of `Codex.AppServer.connect_remote/2`."
  @spec options(Address.t(), keyword()) ::
          {:ok, keyword()}
          | {:error, {:ca_certificate, Path.t(), FileSystem.reason() | :no_certificate}}
  def options(%Address{} = address, given) do
    {file, given} = Keyword.pop(given, :cacertfile)

    with {:ok, authorities} <- authorities(file || variable()),
         :ok <- readable(Keyword.take(given, [:certfile, :keyfile])) do
      {:ok,
       [
         verify: :verify_peer,
         # What is wrong is an error, and no line in a log.
         log_level: :none,
         cacerts: authorities,
         customize_hostname_check: [
           match_fun: :public_key.pkix_verify_hostname_match_fun(:https)
         ]
       ] ++ name(address) ++ given}
    end
  end

  # `:ssl` reads these by the VM's file server, for which all others would wait.
  defp readable(files) do
    Enum.find_value(files, :ok, fn {_option, file} ->
      with {:ok, _content} <- FileSystem.read(file) do
        nil
      else
        {:error, reason} -> {:error, {:ca_certificate, file, reason}}
      end
    end)
  end

  # An address of four or eight numbers is no name that a server could be asked for.
  defp name(%Address{host: host}) when is_binary(host),
    do: [server_name_indication: String.to_charlist(host)]

  defp name(_address), do: []

  # The CLI takes the same variable.
  defp variable do
    case System.get_env("CODEX_CA_CERTIFICATE") do
      "" -> nil
      path -> path
    end
  end

  defp authorities(nil), do: {:ok, system()}

  defp authorities(file) do
    with {:ok, pem} <- FileSystem.read(file),
         [_ | _] = certificates <- certificates(pem) do
      {:ok, certificates ++ system()}
    else
      {:error, reason} -> {:error, {:ca_certificate, file, reason}}
      [] -> {:error, {:ca_certificate, file, :no_certificate}}
    end
  end

  defp certificates(pem) do
    for {:Certificate, der, :not_encrypted} <- :public_key.pem_decode(pem),
        certificate?(der),
        do: der
  rescue
    # Between the lines of a certificate stands what is no base64.
    _ -> []
  end

  defp certificate?(der) do
    _ = :public_key.pkix_decode_cert(der, :otp)
    true
  rescue
    _ -> false
  end

  # A system without any is one where only a file helps.
  defp system do
    :public_key.cacerts_get()
  rescue
    _ -> []
  end
end
