defmodule Codex.HTTP.TLS do
  @moduledoc false
  # Options of `:ssl`. The certificate of a server is always verified, with the authorities of the
  # system and those of a file.

  alias Codex.FileSystem

  @doc """
  Returns options for `:ssl.connect/4` from the name or IP address of the server and the `:tls`
  option of a connection.
  """
  @spec options(String.t() | :inet.ip_address(), keyword()) ::
          {:ok, keyword()}
          | {:error, {:ca_certificate, Path.t(), Codex.Reason.file() | :no_certificate}}
  def options(host, given) do
    {file, given} = Keyword.pop(given, :cacertfile)

    with {:ok, authorities} <- authorities(file || variable()),
         :ok <- readable(Keyword.take(given, [:certfile, :keyfile])) do
      {:ok,
       [
         verify: :verify_peer,
         # Failures are returned, not logged.
         log_level: :none,
         cacerts: authorities,
         customize_hostname_check: [
           match_fun: :public_key.pkix_verify_hostname_match_fun(:https)
         ]
       ] ++ name(host) ++ given}
    end
  end

  # `:ssl` reads these files in the VM's file server, which a slow file would block.
  defp readable(files) do
    Enum.find_value(files, :ok, fn {_option, file} ->
      case FileSystem.read(file) do
        {:ok, _content} -> nil
        {:error, reason} -> {:error, {:ca_certificate, file, reason}}
      end
    end)
  end

  # IP addresses are no server names.
  defp name(host) when is_binary(host), do: [server_name_indication: String.to_charlist(host)]
  defp name(_address), do: []

  # The CLI reads the same variable.
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
    # The lines of a certificate are not base64.
    _ -> []
  end

  defp certificate?(der) do
    _ = :public_key.pkix_decode_cert(der, :otp)
    true
  rescue
    _ -> false
  end

  # A system without authorities needs a file.
  defp system do
    :public_key.cacerts_get()
  rescue
    _ -> []
  end
end
