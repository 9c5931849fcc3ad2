namespace elapid {
namespace ELAPID_TARGET {

}  // namespace ELAPID_TARGET
}  // namespace elapid
