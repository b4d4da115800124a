/** A configuration to begin with: one of every kind of rule that most tunnels have. */
export const EXAMPLE_CONFIG = `# Configuration of a tunnel, for /etc/culvert/config.yml, or to be given with --config. To check it:
#   culvert tunnel --config config.example.yml ingress validate

# The edge to connect to; without it Cloudflare's is looked up, which an air-gapped network does not have.
# edge: edge.example.internal:7844

# Rules are tried from the top; the last one takes what is left.
ingress:
  - hostname: app.example.com
    service: http://localhost:8080
  - hostname: files.example.com
    path: ^/public/
    service: http://localhost:8081
  - hostname: ssh.example.com
    service: ssh://localhost:22
  - service: http_status:404
`;
