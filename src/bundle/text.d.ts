// bun-types knows `.txt`.
declare module "*.ps1" {
  const text: string;
  export = text;
}
declare module "*.sh" {
  const text: string;
  export = text;
}
